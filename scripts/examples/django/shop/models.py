from django.db import models


# roomcast begins
class Heard(models.Model):
    id = models.CharField(primary_key=True, max_length=100)
    event = models.JSONField()
# roomcast ends

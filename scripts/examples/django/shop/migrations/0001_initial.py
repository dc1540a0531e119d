from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Heard',
            fields=[
                ('id', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('event', models.JSONField()),
            ],
        ),
    ]

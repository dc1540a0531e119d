from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import JsonResponse
from django.shortcuts import render
from django.urls import include, path

from . import roomcast
from .models import Heard


@login_required(login_url="login")
def chat(request):
    return render(request, "chat.html", {"gateway": settings.ROOMCAST})


@login_required(login_url="login")
def heard(request):
    return JsonResponse({"heard": list(Heard.objects.values_list("event", flat=True))})


urlpatterns = [
    path("", chat),
    path("heard", heard),
    path("", include("django.contrib.auth.urls")),
    path("roomcast/ask", roomcast.ask),
    path("roomcast/hear", roomcast.hear),
]

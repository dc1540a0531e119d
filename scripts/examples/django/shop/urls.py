from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.urls import include, path

from . import roomcast


@login_required(login_url="login")
def chat(request):
    return render(request, "chat.html", {"gateway": settings.ROOMCAST})


urlpatterns = [
    path("", chat),
    path("", include("django.contrib.auth.urls")),
    path("roomcast/ask", roomcast.ask),
]

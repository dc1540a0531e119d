"""The two URLs to which Roomcast posts. For a request that is not signed, posted raises an error."""

from datetime import timedelta

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse, JsonResponse, parse_cookie
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from standardwebhooks import Webhook

from .models import Heard


# roomcast begins
def posted(request):
    return Webhook(settings.ROOMCAST_SECRET).verify(request.body, request.headers)


@csrf_exempt
def ask(request):  # Roomcast asks who the user of a browser is. The browser's cookie shows it.
    request.COOKIES = parse_cookie(posted(request).get("headers", {}).get("Cookie", ""))
    SessionMiddleware(lambda request: None).process_request(request)
    user = get_user(request)
    if not user.is_authenticated:
        return JsonResponse({"allow": False, "why": "log in first"})
    rooms = {"lobby": "read say", "user:{id}": "read say"}
    until = timezone.now() + timedelta(hours=1)
    return JsonResponse({"allow": True, "id": user.get_username(), "rooms": rooms, "until": until})


@csrf_exempt
def hear(request):  # Roomcast posts events until it gets a 2xx, so some may come twice
    for event in posted(request)["events"]:
        Heard.objects.get_or_create(id=event["id"], defaults={"event": event})
    return HttpResponse(status=204)
# roomcast ends

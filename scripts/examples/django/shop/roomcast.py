"""What Roomcast asks this site."""

from datetime import timedelta

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import JsonResponse, parse_cookie
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from standardwebhooks import Webhook


# roomcast begins
def posted(request):
    """The JSON that Roomcast has posted. An error if Roomcast has not signed it."""
    return Webhook(settings.ROOMCAST_SECRET).verify(request.body, request.headers)


@csrf_exempt
def ask(request):
    """Says who a browser is, by the cookie with which it connects to Roomcast."""
    request.COOKIES = parse_cookie(posted(request).get("headers", {}).get("Cookie", ""))
    SessionMiddleware(lambda request: None).process_request(request)
    user = get_user(request)
    if not user.is_authenticated:
        return JsonResponse({"allow": False, "why": "log in first"})
    rooms = {"lobby": "read say", "user:{id}": "read say"}
    until = timezone.now() + timedelta(hours=1)
    return JsonResponse({"allow": True, "id": user.get_username(), "rooms": rooms, "until": until})
# roomcast ends

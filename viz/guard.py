"""Who may look at a live page: whoever holds its token, from its own origin.

A page on 127.0.0.1 can be reached by every program of the machine and, through a browser,
by every web site that is open in it. The address that is printed holds a token, which is
new in every run; the first visit exchanges it for a cookie. Every request, the websocket's
included, must hold one of both, name this server as its host (a foreign name that resolves
here is refused) and, if it says where it comes from, come from this page.
"""

import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp.web import Request, StreamResponse

Handler = Callable[["Request"], Awaitable["StreamResponse"]]
HOSTS = ("127.0.0.1", "localhost")


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def refusal(
    token: str, port: int, host: str, origin: str | None, shown: tuple[str, ...]
) -> str:
    """Return why a request is refused; empty where it is not.

    Args:
        token: of the page.
        port: of the server.
        host: header ``Host``.
        origin: header ``Origin``, if there is one.
        shown: the tokens that the request shows, in its address or its cookie.
    """
    served = {f"{name}:{port}" for name in HOSTS}
    if host not in served:
        return "another host"
    if origin is not None and origin not in {f"http://{name}" for name in served}:
        return "another origin"
    if not any(hmac.compare_digest(token.encode(), each.encode()) for each in shown):
        return "no token"
    return ""


def middleware(token: str, port: Callable[[], int]) -> Any:
    """Return the aiohttp middleware that refuses strangers.

    Args:
        token: of the page.
        port: tells the port of the server, once it is known.
    """
    from aiohttp import web

    @web.middleware
    async def guard(request: "Request", handler: Handler) -> "StreamResponse":
        cookie = f"scalebridge-{port()}"
        given = request.query.get("token", "")
        shown = (given, request.cookies.get(cookie, ""))
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if why := refusal(token, port(), host, origin, shown):
            raise web.HTTPForbidden(text=f"refused: {why}; open the address as printed")
        response = await handler(request)
        if given and not response.prepared:
            response.set_cookie(cookie, token, httponly=True, samesite="Strict")
        return response

    return guard


def address(port: int, token: str) -> str:
    """Return the address of the page, with its token."""
    return f"http://127.0.0.1:{port}/index.html?token={token}"


__all__ = ["address", "middleware", "new_token", "refusal"]

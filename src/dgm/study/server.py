"""The page of a study on this machine: a thin layer of HTTP over `dgm.study.session.Session`."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from collections.abc import Callable
from importlib import resources
from typing import Any, TypedDict

from dgm.documents import misfit
from dgm.errors import BadInput, DgmError, MissingExtra
from dgm.study.session import MEDIA_TYPES, OtherTab, Session, UnknownRater

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtra.of("dgm study", "web") from error

LOOPBACK = ("127.0.0.1", "localhost")
PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src data:; media-src blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Begin(TypedDict):
    """The content of a request for a new rater."""


class Resume(TypedDict):
    """That of a page of a rater."""

    token: str


class Answered(TypedDict):
    """That of an answer."""

    token: str
    tab: str
    number: int
    choice: str
    seconds: float
    shown: float | None


REQUESTS = {"begin": Begin, "resume": Resume, "answer": Answered}
LARGEST = 1 << 12  # bytes of a request
STATUS: dict[type[DgmError], int] = {UnknownRater: 410, OtherTab: 409}


def listening(host: str, port: int) -> socket.socket:
    """A socket on an address; port 0 is any free one.

    Raises:
        BadInput: If the port is in use, or there is no such address.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            wrong = f"port {port} of {host} is in use"
            raise BadInput(wrong, "choose another --port, or --port 0 for any free one") from error
        raise BadInput(
            f"{host}:{port} cannot be served: {error.strerror}", "choose another --host or --port"
        ) from error


def serve(session: Session, where: socket.socket) -> None:
    """Serves until Ctrl-C or SIGTERM."""
    app = application(session, where.getsockname()[0])
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
    config.timeout_graceful_shutdown = 1
    uvicorn.Server(config).run(sockets=[where])


def application(session: Session, host: str) -> Starlette:
    """The ASGI application. On loopback it answers only to names of this machine, so that no other site reaches it."""

    async def example(request: Request) -> Response:
        try:
            content = session.example(request.path_params["ticket"])
        except BadInput as error:
            return refused(error)
        return Response(content, media_type=MEDIA_TYPES[session.medium], headers=HEADERS)

    routes = [Route(path, page(name, kind)) for path, (name, kind) in PAGE.items()]
    for name, schema in REQUESTS.items():
        routes.append(Route(f"/{name}", posted(getattr(session, name), schema), methods=["POST"]))
    routes += [Route("/example/{ticket}", example)]
    allowed = [*LOOPBACK] if host.startswith("127.") else ["*"]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=allowed)])


def page(name: str, kind: str) -> Callable[[Request], Any]:
    content = resources.files("dgm.study").joinpath(name).read_text(encoding="utf-8")

    async def respond(_: Request) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return respond


def posted(call: Callable[..., dict[str, Any]], schema: Any) -> Callable[[Request], Any]:
    """An endpoint for a JSON object of a schema, which answers with one."""

    async def respond(request: Request) -> Response:
        try:
            content = object_in(await body_of(request))
            if wrong := misfit(content, schema, ""):
                raise BadInput(f"a request does not fit: {wrong}", "use the page")
            return JSONResponse(call(**{name: content[name] for name in schema.__annotations__}), headers=HEADERS)
        except DgmError as error:
            return refused(error)

    return respond


async def body_of(request: Request) -> bytes:
    """The body of a JSON request. A page of another site can send none here without being asked for permission."""
    if request.headers.get("content-type") != "application/json":
        raise BadInput("a request must be JSON", "use the page")
    held = bytearray()
    async for part in request.stream():
        held += part
        if len(held) > LARGEST:
            raise BadInput(f"a request has at most {LARGEST} bytes", "use the page")
    return bytes(held)


def object_in(body: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(body)
        if isinstance(content, dict):
            return content
    raise BadInput("a request must be a JSON object", "use the page")


def refused(error: DgmError) -> Response:
    return JSONResponse({"wrong": str(error)}, status_code=STATUS.get(type(error), 400), headers=HEADERS)

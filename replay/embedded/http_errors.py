"""Errors over HTTP, with the bodies that vLLM gives."""

from __future__ import annotations

from http import HTTPStatus

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler


class BadRequestError(Exception):
    """The request cannot be served as it is; ``param`` names the field at fault."""

    status = HTTPStatus.BAD_REQUEST
    type = "BadRequestError"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class NotFoundError(BadRequestError):
    """What the request names is not there."""

    status = HTTPStatus.NOT_FOUND
    type = "NotFoundError"


def error_response(message: str, kind: str, status: int, param: str | None = None) -> web.Response:
    """A response with vLLM's error body."""
    body = {"error": {"message": message, "type": kind, "param": param, "code": status}}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error, those of the router included, in the one shape."""
    try:
        return await handler(request)
    except BadRequestError as error:
        return error_response(error.message, error.type, error.status, error.param)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return error_response(error.reason, error.reason, error.status)

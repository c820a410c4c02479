"""Signing in, where the server can be reached from elsewhere."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from .security import LOGIN, Form, Gate
from .views import page


def login_pages(gate: Gate) -> APIRouter:
    """Return the pages to sign in and out."""
    router = APIRouter()

    @router.get(LOGIN)
    async def ask(request: Request) -> Response:
        return page(request, "login", {"wrong": False})

    @router.post(LOGIN)
    async def sign_in(request: Request, form: Form) -> Response:
        if not gate.admits(str(form.get("token", ""))):
            return page(request, "login", {"wrong": True}, 403)
        request.state.session = gate.new(signed_in=True)
        return RedirectResponse("/", status_code=303)

    @router.post("/logout")
    async def sign_out(request: Request, form: Form) -> Response:  # noqa: ARG001  # the form is checked
        request.state.session = gate.new(signed_in=False)
        return RedirectResponse(LOGIN, status_code=303)

    return router

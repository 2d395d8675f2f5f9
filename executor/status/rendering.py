"""Rendering that always ends in a page: the owner's template, then the built-in one, then plain HTML without any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from flask import Flask, current_app, render_template
from jinja2 import Environment, FileSystemLoader, FunctionLoader, StrictUndefined, TemplateSyntaxError
from jinja2.loaders import split_template_path

from common.texts import read_text

from .faults import current_faults

BUILT_IN = Path(__file__).parent / "templates"


def own_templates(folder: str) -> FunctionLoader:
    """Return the loader of the owner's templates, as any editor writes them."""

    def load(name: str) -> tuple[str, str, Callable[[], bool]] | None:
        path = Path(folder, *split_template_path(name))
        if not path.is_file():
            return None
        changed = path.stat().st_mtime_ns
        try:
            return read_text(path), str(path), lambda: path.stat().st_mtime_ns == changed
        except ValueError as exc:
            raise TemplateSyntaxError(f"the file {exc}", 1, name, str(path)) from exc

    return FunctionLoader(load)


def keep_built_in(app: Flask) -> None:
    """Keep the built-in templates within reach, whatever the owner's own folder holds."""
    app.extensions["built_in"] = app.jinja_env.overlay(
        loader=FileSystemLoader(BUILT_IN), undefined=StrictUndefined
    )  # fmt: skip


def render(name: str, plain: Callable[[], str], **context: Any) -> str:
    """Return a small page: a template's, or `plain()` where none can be rendered; what failed is reported."""
    try:
        html = render_template(name, **context)
    except Exception as error:
        current_faults().failed(name, error)
        return render_built_in(name, plain, **context)
    current_faults().fine(name)
    return html


def render_built_in(name: str, plain: Callable[[], str], **context: Any) -> str:
    """Return the built-in template's page, or `plain()` where that fails too."""
    try:
        return render_template(cast(Environment, current_app.extensions["built_in"]).get_template(name), **context)
    except Exception as error:
        current_faults().failed(f"the built-in {name}", error)
        return plain()

"""A page in the place of a file: hosters answer 200 with HTML where they want a confirmation, or have had enough."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

MOST_PAGE = 1 << 20
"""Bytes of a page that are read; a page is smaller."""
_MARKUP = re.compile(
    rb"\s*(<!--.*?-->\s*)*<(!doctype\b|html\b|head\b|body\b|title\b|\?xml\b|script\b|center\b|error\b)", re.I | re.S
)
_LFS = b"version https://git-lfs.github.com/spec/"
_SHOWN = 160


@dataclass(frozen=True)
class Page:
    """What came in the place of a file.

    Attributes:
        says: its title, or the beginning of its text.
        confirm: the address that its confirmation leads to; None where it asks for none.
    """

    says: str
    confirm: str | None = None


def is_page(content_type: str, start: bytes) -> bool:
    """Whether an answer is a text for people and no file.

    Args:
        content_type: the answer's header.
        start: its first bytes, some hundred at least.
    """
    start = start[:2048].removeprefix(b"\xef\xbb\xbf")
    if _MARKUP.match(start) or start.startswith(_LFS):
        return True
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml", "text/plain", "application/json", "text/xml", "application/xml"):
        return b"\0" not in start and _is_text(start)
    return False


def read(body: bytes, url: str) -> Page:
    """What a page says, and where its confirmation leads."""
    text = body[:MOST_PAGE].decode("utf-8", "replace")
    if body.startswith(_LFS):
        return Page("a pointer of Git LFS in the place of the file")
    if text.lstrip()[:1] in "{[":
        return Page(_of_json(text))
    page = _Page()
    try:
        page.feed(text)
        page.close()
    except AssertionError:  # html.parser on malformed declarations
        pass
    says = " ".join("".join(page.title).split()) or _plain(text)
    return Page(says[:_SHOWN], _confirmation(page, text, url))


def _confirmation(page: _Page, text: str, url: str) -> str | None:
    """The address behind the page's "download anyway": a form that confirms, or a link with `confirm=`."""
    forms = [form for form in page.forms if form.confirms] or [
        f for f in page.forms if f.fields and len(page.forms) == 1
    ]
    if forms:
        target = urlsplit(urljoin(url, forms[0].action))
        query = "&".join(part for part in (target.query, urlencode(forms[0].fields)) if part)
        address: str | None = urlunsplit(target._replace(query=query, fragment=""))
    else:
        link = re.search(r"""href=["']([^"']*[?&;]confirm=[^"']+)["']""", text)
        address = urljoin(url, html.unescape(link[1])) if link else None
    return address if address is not None and _may_follow(url, address) else None


def _may_follow(here: str, there: str) -> bool:
    """A confirmation stays with the hoster (equal last two labels of the host), and never leaves https."""
    a, b = urlsplit(here), urlsplit(there)
    if b.scheme not in ("https", "http") or (a.scheme == "https" and b.scheme != "https"):
        return False
    return a.netloc == b.netloc or _site(a.hostname) == _site(b.hostname) != ""


def _site(host: str | None) -> str:
    labels = (host or "").lower().split(".")
    return ".".join(labels[-2:]) if len(labels) > 1 and not labels[-1].isdigit() else ""


def _is_text(start: bytes) -> bool:
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(start) - 3  # a character cut at the end
    return True


def _plain(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.S | re.I)).split())


def _of_json(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return _plain(text)[:_SHOWN]
    for key in ("message", "error_description", "error", "detail"):
        if isinstance(value, dict) and isinstance(value.get(key), (str, dict)):
            inner = value[key]
            return str(inner.get("message", inner) if isinstance(inner, dict) else inner)[:_SHOWN]
    return " ".join(text.split())[:_SHOWN]


@dataclass
class _Form:
    action: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    @property
    def confirms(self) -> bool:
        return "confirm=" in self.action or any(name == "confirm" for name, _ in self.fields)


class _Page(HTMLParser):
    """Collects the title, and the forms with their hidden fields."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.forms: list[_Form] = []
        self._in_title = self._in_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin of a title, a form or a hidden field."""
        values = {key: value or "" for key, value in attrs}
        if tag == "title":
            self._in_title = True
        elif tag == "form":
            self.forms.append(_Form(values.get("action", "")))
            self._in_form = True
        elif tag == "input" and self._in_form and values.get("type", "").lower() == "hidden" and values.get("name"):
            self.forms[-1].fields.append((values["name"], values.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        """End of a title or a form."""
        if tag == "title":
            self._in_title = False
        elif tag == "form":
            self._in_form = False

    def handle_data(self, data: str) -> None:
        """Text of the title."""
        if self._in_title:
            self.title.append(data)

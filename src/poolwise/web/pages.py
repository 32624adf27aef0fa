"""Pages for customers, at the edge of the API: the tracking page, read and written to by an ordinary browser.

No script, no cookie, no token: the link is the key, and nobody who has none can tell a wrong link from one that has
ended, or from an order that does not exist. What a form asks for has one effect, however often it is sent (law 5).
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from datetime import date
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Final
from uuid import UUID

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import HTTPScope, Receive, Send
from msgspec import Meta

from poolwise.core.messages import Address
from poolwise.core.policy.terms import CustomerAct
from poolwise.core.values import Conflict, Fault, Refused, Upstream
from poolwise.flows import change
from poolwise.flows.intake import Counter, Rejected
from poolwise.flows.ports import Answer
from poolwise.flows.tracking import CUSTOMER, Why, Wish, do_wish, ends_at, order_behind, why_in_parts
from poolwise.flows.views import OrderView
from poolwise.web.decoding import read_query
from poolwise.web.endpoint import Key, Reply
from poolwise.web.errors import STATUS_OF
from poolwise.web.forms import COUNTRY, PRINTABLE, LongText, Text
from poolwise.web.idempotency import kept, kept_refusal, once
from poolwise.web.operations import Measured
from poolwise.web.orders import waits_of
from poolwise.web.threads import Threads
from poolwise.web.tracking import PATH, Drawing
from poolwise.web.wire import answer, body_of, headers_of
from poolwise.web.wiring import Services

LOG: Final = logging.getLogger("poolwise.web")
MOST_HAPPENINGS: Final = 200
MOST_BYTES: Final = 10_000
HTML: Final = "text/html; charset=utf-8"
FORM: Final = "application/x-www-form-urlencoded"
ONCE_BITS: Final = 128
MOST_KNOWN: Final = 10_000

DONE: Final[Mapping[str, str]] = {
    CustomerAct.CANCEL: "What was not packed yet is cancelled.",
    CustomerAct.FEWER: "It is cancelled.",
    CustomerAct.DAY: "The day is changed. We plan your order anew.",
    CustomerAct.ADDRESS: "The address is changed.",
}
WRONG: Final[Mapping[str, str]] = {
    "too_late": "It is too late for that: it is being packed, or has left.",
    "not_allowed": "That cannot be changed here. Please contact us.",
    "key_reused": "That was sent before. This is how your order is now.",
    "query_invalid": "That could not be read. Nothing was changed.",
}
ASKED: Final[Mapping[str, str]] = {
    "name": "Name", "street": "Street and number", "postcode": "Postcode", "city": "City", "country": "Country",
}  # fmt: skip
"""What an address is asked for, as the page calls it."""
TOO_LONG: Final = ("That is too long", "It could not be read. Nothing was changed.")
LOST: Final = (
    "This link leads nowhere",
    "It may have ended, or a part of it is missing. Please use the newest link you were sent.",
)
BUSY: Final = ("Please come back in a moment", "We cannot show your order just now. Nothing is lost.")


class WishIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A form of the page: what is to be done, under a key that the page had made up."""

    once: Annotated[str, Meta(pattern="^[0-9a-z]{1,64}$")]
    act: CustomerAct
    line: Annotated[int, Meta(ge=1)] = 1
    less: Annotated[str, Meta(max_length=40, pattern=PRINTABLE)] = ""
    day: date | None = None
    name: Text = ""
    street: LongText = ""
    postcode: Annotated[str, Meta(max_length=20, pattern=PRINTABLE)] = ""
    city: Text = ""
    country: Annotated[str, Meta(max_length=2, pattern=COUNTRY)] = ""

    def wish(self) -> Wish:
        """As the flow takes it. Refuses an address of which something is missing: a browser need not have looked."""
        address = None
        if self.act is CustomerAct.ADDRESS:
            missing = [Fault(name, "is missing") for name in ASKED if not str(getattr(self, name)).strip()]
            if missing:
                raise Refused("query_invalid", missing)
            address = Address(
                country=self.country, postcode=self.postcode, name=self.name, street=self.street, city=self.city
            )
        day = self.day if self.act is CustomerAct.DAY else None
        return Wish(self.act, self.line, self.less, day, address)


class Pages:
    """Answers browsers that follow a link."""

    def __init__(self, services: Services, threads: Threads, measured: Measured) -> None:
        self._services = services
        self._threads = threads
        self._measured = measured
        self._known: dict[tuple[UUID, int], tuple[Why, ...]] = {}
        environment = Environment(
            loader=PackageLoader("poolwise.web"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
            undefined=StrictUndefined,
        )  # fmt: skip
        assert environment.loader is not None, "it was just given"
        self._style = environment.loader.get_source(environment, "track.css")[0].replace("\n", "")
        self._template = environment.get_template("track.html")
        styled = base64.b64encode(sha256(self._style.encode()).digest()).decode()
        self._headers: Mapping[str, str] = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{styled}'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Robots-Tag": "noindex, nofollow",
        }

    async def handle(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        """Any request below the path of tracking links."""
        method, link = scope["method"], scope["path"].strip("/").removeprefix(PATH.lstrip("/"))
        began = self._services.stopwatch()
        if method not in ("GET", "HEAD", "POST"):
            reply = Reply(405, None, {"Allow": "GET, HEAD, POST"})
        elif self._threads.waiting >= self._services.limits.most_waiting:
            reply = self._refused(HTTPStatus.TOO_MANY_REQUESTS, BUSY)
        else:
            reply = await self._reply(scope, receive, link)
        self._measured.answered(f"{method} {PATH}" + "{link}", reply.status, self._services.stopwatch() - began)
        assert not isinstance(reply.body, msgspec.Struct), "a page is bytes"
        await answer(send, reply.status, reply.headers, None if method == "HEAD" else reply.body, HTML)

    async def _reply(self, scope: HTTPScope, receive: Receive, link: str) -> Reply:
        headers, is_wish = headers_of(scope), scope["method"] == "POST"
        try:
            body = await body_of(receive, headers.get("content-length", ""), MOST_BYTES) if is_wish else b""
        except RequestEntityTooLarge:
            return self._refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LONG)
        is_form = headers.get("content-type", "").split(";")[0].strip().lower() == FORM
        query = scope["query_string"].decode("ascii", errors="replace")
        return await self._threads.run(self._answer, link, body if is_form else b"", query, is_wish)

    def _answer(self, link: str, body: bytes, query: str, is_wish: bool) -> Reply:
        """A page, in a thread; whatever goes wrong is told in a page, too."""
        services = self._services
        try:
            order = order_behind(services.links.key(), link, services.clock())
            view = None if order is None else services.views.order(order)
            if view is None or view.record.order.id != order:
                return self._refused(HTTPStatus.NOT_FOUND, LOST)
            if not is_wish:
                return self._page(link, view, done=DONE.get(query.removeprefix("done="), ""))
            try:
                return self._done(link, view, body)
            except Refused as refused:
                status = STATUS_OF.get(refused.code, 422)
                fresh = services.views.order(order)
                assert fresh is not None, "orders do not go away"
                return self._page(link, fresh, wrong=_wrong(refused), status=status)
        except (Conflict, Upstream):
            return self._refused(HTTPStatus.SERVICE_UNAVAILABLE, BUSY)
        except Exception:
            LOG.exception("the tracking page failed")
            return self._refused(HTTPStatus.INTERNAL_SERVER_ERROR, BUSY)

    def _page(self, link: str, view: OrderView, *, done: str = "", wrong: str = "", status: int = 200) -> Reply:
        services, order = self._services, view.record.order
        atlas = services.rules.current()
        drawing = Drawing(view, atlas.edition, atlas.policy.policy.customers, services.clock())
        reasons = self._why(view) if len(view.shipments) > 1 else ()
        happenings = services.views.timeline(order.id, order.number, MOST_HAPPENINGS)
        page = drawing.page(happenings, reasons, waits_of(services, view))
        text = self._template.render(
            page=page, shop=services.shop, style=self._style, done=done, wrong=wrong, action=PATH + link,
            once=f"{services.random_bits(ONCE_BITS):032x}", until=ends_at(link),
        )  # fmt: skip
        return Reply(status, text.encode(), self._headers)

    def _why(self, view: OrderView) -> tuple[Why, ...]:
        """Worked out once: of a decision it is always the same."""
        key = (view.record.order.id, view.record.attempt)
        if key not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = why_in_parts(self._services.books, self._services.rules, key[0])
        return self._known[key]

    def _refused(self, status: HTTPStatus, said: tuple[str, str]) -> Reply:
        title, words = said
        text = self._template.render(page=None, shop=self._services.shop, style=self._style, title=title, text=words)
        return Reply(status, text.encode(), self._headers)

    def _done(self, link: str, view: OrderView, body: bytes) -> Reply:
        """Do what a form asks for, and lead back to the page."""
        services, order = self._services, view.record.order
        try:
            form = read_query(body.decode("ascii"), WishIn)
        except UnicodeDecodeError:
            raise Refused.one("query_invalid", "", "is no form") from None
        key, wish = _key(order.id, form, body), form.wish()

        def keep(outcome: change.Outcome) -> Answer:
            return kept_refusal(key, outcome) if isinstance(outcome, Rejected) else kept(key, 303, form.act.value)

        def again(act: str) -> Reply:
            return Reply(303, None, {**self._headers, "Location": f"{PATH}{link}?done={act}"})

        def do() -> Reply:
            atlas = services.rules.current()
            counter = Counter(atlas.edition, atlas.policy.policy, services.ids, CUSTOMER)
            now = services.clock()
            today = atlas.edition.network.day_in(order.zone, now)
            outcome = do_wish(services.books, counter, order.number, wish, now, today, keep)
            if isinstance(outcome, Rejected):
                raise Refused(outcome.code, outcome.problems)
            return again(form.act.value)

        return once(services.books, key, do, lambda known: again(known.reference), look_first=True)


def _key(order: UUID, form: WishIn, body: bytes) -> Key:
    return Key(f"{CUSTOMER} {order}", form.once, sha256(body).digest())


def _wrong(refused: Refused) -> str:
    """A refusal in words for a customer."""
    told = [f"{ASKED[fault.field]} {fault.reason}." for fault in refused.problems if fault.field in ASKED]
    if told:
        return " ".join([*told, "Nothing was changed."])
    if refused.code in WRONG:
        return WRONG[refused.code]
    if any(fault.field.startswith(("zone", "ship_to")) for fault in refused.problems):
        return "We do not deliver to that address. Nothing was changed."
    return "That is not possible. Nothing was changed."

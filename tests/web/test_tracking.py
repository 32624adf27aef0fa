"""The tracking page in a real browser: what it says, what may be done on it, and that a wrong link tells nothing."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from poolwise.core.policy.evaluate import compile_policy
from poolwise.core.policy.terms import CustomerAct, CustomerTerms, Until
from poolwise.core.sourcing.atlas import Atlas
from poolwise.core.values import replace
from poolwise.flows.ports import Audit
from poolwise.flows.tokens import Role
from poolwise.store.embedded import EmbeddedServer
from tests.conftest import copied_database
from tests.web.shop import OPENED, ORDER, RULES, Shop
from tests.web.shop import opened as running
from tests.web.test_tour import STEP, fits

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--no-first-run")  # fmt: skip
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
LARGEST_BYTES = 30_000
HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"
STEP_OR_PAGE = re.compile(STEP.pattern + r"|```page\n(.*?)```", re.DOTALL)
numbers = itertools.count(1)
SATURDAY = 5


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "the tests of pages need a browser: apt-get install chromium, or make browser"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that runs no script and waits for nobody."""
    made = browser.new_context(java_script_enabled=False, viewport=PHONE)
    made.set_default_timeout(5_000)
    yield made
    made.close()


def ordered(shop: Shop, number: str, *lines: tuple[str, str], **more: object) -> str:
    """An order that was decided, and the link to its page."""
    wanted = [{"item": item, "quantity": quantity} for item, quantity in lines or [("MUG-BLUE", "3")]]
    assert shop.post("/v1/orders", {**ORDER, "number": number, "lines": wanted, **more}).status_code == 201
    shop.decide()
    return link(shop, number)


def link(shop: Shop, number: str, days: int = 30) -> str:
    answer = shop.post(f"/v1/orders/{number}/tracking-links", {"days": days})
    assert answer.status_code == 201, answer.text
    return shop.url + "/t/" + answer.json()["url"].rpartition("/t/")[2]


def morning(shop: Shop) -> None:
    """Ten on the next working day: what is ordered then leaves on that day."""
    days = (shop.clock().date() - OPENED.date()).days + 1
    while (OPENED + timedelta(days=days)).weekday() >= SATURDAY:
        days += 1
    shop.clock.ahead = timedelta(days=days)


def report(shop: Shop, number: str, kind: str, shipment: int = 1, **more: object) -> None:
    at = shop.clock().isoformat()
    body = {"id": f"{number}-{shipment}-{kind}", "order": number, "shipment": shipment, "kind": kind, "at": at, **more}
    answer = shop.post("/v1/shipments/reports", body)
    assert answer.status_code == 200, answer.text


def opened(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.goto(url)
    return page


def parts(shop: Shop, number: str) -> dict[str, str]:
    line = shop.get(f"/v1/orders/{number}").json()["lines"][0]
    return {name: line[name] for name in ("reserved", "released", "shipped", "cancelled") if line[name] != "0"}


def test_the_how_to_is_walked_as_it_is_written(server: EmbeddedServer, template: str, context: BrowserContext) -> None:
    """Its requests are sent and its page is looked at, in the order of the text; after each, a worker does its part."""
    text = (HOW_TO / "follow-an-order.md").read_text()
    for database in copied_database(server, template):
        with running(database.url, stocked=False) as shop, shop.client(Role.OPERATOR) as client:
            page = context.new_page()
            for method, path, headers, body, expected, acts in STEP_OR_PAGE.findall(text):
                if acts:
                    page.reload()
                    walk(page, acts.splitlines())
                    continue
                if path.startswith("/v1/shipments?"):
                    shop.release()
                named = dict(line.split(": ", 1) for line in headers.splitlines())
                kind = {"Content-Type": "application/json"} if body else {}
                answer = client.request(method, path, headers=named | kind, content=body.strip().encode())
                assert fits(answer.json(), json.loads(expected)), f"{method} {path}: {answer.text}"
                if path.endswith("/tracking-links"):
                    page.goto(f"{shop.url}/t/{answer.json()['url'].rpartition('/t/')[2]}")
                shop.decide()
    assert text.count("```http") + text.count("```page") == len(STEP_OR_PAGE.findall(text))


def walk(page: Page, lines: list[str]) -> None:
    """What a block says: `> what is there`, `[a button]`, `a question? an answer`, or what to open."""
    for line in lines:
        if line.startswith("> "):
            assert line[2:] in re.sub(r"\s+", " ", page.inner_text("body")), line
        elif line.startswith("["):
            page.get_by_role("button", name=line[1:-1]).click()
        elif "? " in line:
            label, _, value = line.rpartition("? ")
            page.get_by_label(label).fill(value)
        else:
            page.get_by_text(line).first.click()


def test_a_page_follows_its_order_to_the_door(shop: Shop, context: BrowserContext) -> None:
    url = ordered(shop, "TRACK-1")
    page = opened(context, url)
    assert page.get_by_role("heading", level=1).inner_text() == "We have your order"
    assert re.search(r"Arrives \w+day \d+ \w+", page.inner_text("main"))
    shop.release()
    page.reload()
    assert page.get_by_role("heading", level=1).inner_text() == "Your order is being prepared"
    parcel = {"tracking": "JD-77", "box": "S", "lines": [{"item": "MUG-BLUE", "quantity": "3"}]}
    report(shop, "TRACK-1", "shipped", parcels=[parcel])
    page.reload()
    assert page.get_by_role("heading", level=1).inner_text() == "Your order is on its way"
    assert page.locator("[aria-current=step]").inner_text() == "On its way"
    assert "JD-77" in page.inner_text("main")
    report(shop, "TRACK-1", "delivered")
    page.reload()
    assert page.get_by_role("heading", level=1).inner_text() == "Your order is delivered"
    assert "cannot be changed any more" in page.inner_text("main")


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_state_of_it_is_accessible(shop: Shop, browser: Browser, size: dict[str, int], dark: bool) -> None:
    """axe runs in the page, so here scripts are allowed; the page has none."""
    number = f"AXE-{size['width']}-{dark}"
    url = ordered(shop, number, ("MUG-BLUE", "3"), ("PAN", "2"))
    context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light", bypass_csp=True)
    page = opened(context, url)
    for summary in page.locator("summary").all():
        summary.click()
    found = [Axe().run(page)]
    page.get_by_role("button", name="Cancel these").first.click()
    page.get_by_label(re.compile("How many of 3")).fill("1")
    page.get_by_role("button", name="Cancel these").first.click()
    assert page.get_by_role("status").count() == 1
    found.append(Axe().run(page))
    httpx.post(url, data={"once": "1", "act": "cancel"})
    wrong = httpx.post(url, data={"once": "2", "act": "cancel"})
    page.set_content(wrong.text)
    assert page.get_by_role("alert").count() == 1
    found.append(Axe().run(page))
    page.goto(url[:-1] + ("A" if url[-1] != "A" else "B"))
    found.append(Axe().run(page))
    wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()
    assert [each.generate_report() for each in found if each.violations_count] == []
    assert wide


def test_it_is_small_and_needs_no_script_and_keeps_to_itself(shop: Shop) -> None:
    answer = httpx.get(ordered(shop, "SMALL", ("MUG-BLUE", "3"), ("PAN", "2"), ("PLATE", "8")))
    assert len(answer.content) < LARGEST_BYTES
    assert answer.text.startswith("<!doctype html>")
    assert "<script" not in answer.text
    assert re.findall(r"(?:src|href)=\"(?!mailto:)", answer.text) == []
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (answer.headers["referrer-policy"], answer.headers["cache-control"]) == ("no-referrer", "no-store")


def test_nothing_of_the_person_is_on_it(shop: Shop) -> None:
    to = {"country": "DE", "postcode": "20095", "name": "Ada Lovelace", "street": "Secret Lane 9", "city": "Hamburg",
          "email": "ada@example.com", "phone": "+49 40 123"}  # fmt: skip
    body = {**ORDER, "number": "PRIVATE", "customer": "C-4711", "ship_to": to}
    del body["zone"]
    assert shop.post("/v1/orders", body).status_code == 201
    shop.decide()
    shop.post("/v1/orders/PRIVATE/holds", {"code": "fraud", "blocks": ["release"]})
    text = httpx.get(link(shop, "PRIVATE")).text
    assert "PRIVATE" in text
    assert [
        word for word in ("Ada", "Secret", "20095", "ada@", "123", "C-4711", "fraud", "the integrator") if word in text
    ] == []


def test_a_link_that_was_changed_in_any_place_tells_nothing(shop: Shop) -> None:
    url = ordered(shop, "SEALED")
    head, _, text = url.rpartition("/")
    nothing = httpx.get(f"{head}/nonsense")
    assert nothing.status_code == 404
    assert "SEALED" not in nothing.text
    raw = base64.urlsafe_b64decode(text)
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        answer = httpx.get(f"{head}/{base64.urlsafe_b64encode(changed).decode()}")
        assert (answer.status_code, answer.text) == (404, nothing.text), place
    for other in (text[:-4], text + "AAAA", text.lower(), f"{text}/more", "%00" * 48):
        answer = httpx.get(f"{head}/{other}")
        assert (answer.status_code, answer.text) == (404, nothing.text), other
    assert httpx.post(f"{head}/{text[:-4]}AAAA", data={"once": "1", "act": "cancel"}).status_code == 404
    assert parts(shop, "SEALED") == {"reserved": "3"}


def test_a_link_that_has_ended_tells_nothing(shop: Shop) -> None:
    ordered(shop, "ENDED")
    url = link(shop, "ENDED", days=1)
    assert httpx.get(url).status_code == 200
    shop.clock.ahead += timedelta(days=1, seconds=1)
    answer = httpx.get(url)
    assert (answer.status_code, "ENDED" in answer.text) == (404, False)
    assert answer.text == httpx.get(url[:-1] + "?").text


def test_another_key_ends_every_link(shop: Shop) -> None:
    url = ordered(shop, "RENEWED")
    shop.services.links.renew(b"k" * 32, shop.clock(), Audit("test", "tracking.renew_key", ""))
    assert httpx.get(url).status_code == 404
    assert httpx.get(link(shop, "RENEWED")).status_code == 200


def test_a_link_leads_to_its_order_though_another_has_its_id_for_a_number(shop: Shop) -> None:
    url = ordered(shop, "FIRST")
    ordered(shop, shop.get("/v1/orders/FIRST").json()["id"], ("PLATE", "1"))
    assert "FIRST" in httpx.get(url).text


def test_a_link_is_given_again_under_its_key_and_is_audited(shop: Shop) -> None:
    ordered(shop, "ONE-LINK")
    first, second = (shop.post("/v1/orders/ONE-LINK/tracking-links", {"days": 3}, "same-link") for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    said = shop.rows(b"SELECT actor, subject FROM audit WHERE action = 'tracking.link' AND subject = 'ONE-LINK'")
    assert said[-1] == ("the integrator", "ONE-LINK")
    assert shop.post("/v1/orders/GHOST/tracking-links", {}).status_code == 404


def test_a_customer_cancels_some_of_it_and_then_the_rest(shop: Shop, context: BrowserContext) -> None:
    page = opened(context, ordered(shop, "LESS"))
    page.get_by_text("Cancel some of it").click()
    page.get_by_label(re.compile("How many of 3")).fill("2")
    page.get_by_role("button", name="Cancel these").click()
    assert page.get_by_role("status").inner_text() == "It is cancelled."
    assert parts(shop, "LESS") == {"reserved": "1", "cancelled": "2"}
    page.get_by_text("Cancel the order").first.click()
    page.get_by_role("button", name="Cancel the order").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Your order is cancelled"
    assert parts(shop, "LESS") == {"cancelled": "3"}
    said = shop.rows(b"SELECT actor, action FROM audit WHERE detail ->> 'order' = 'LESS' ORDER BY no")
    assert said[-1] == ("customer", "order.cancelled")


def test_what_is_packed_meanwhile_is_not_cancelled_by_an_old_page(shop: Shop, context: BrowserContext) -> None:
    page = opened(context, ordered(shop, "RACED"))
    shop.release()
    report(shop, "RACED", "picked")
    page.get_by_text("Cancel the order").first.click()
    page.get_by_role("button", name="Cancel the order").click()
    assert page.get_by_role("alert").inner_text() == "It is too late for that: it is being packed, or has left."
    assert parts(shop, "RACED") == {"released": "3"}


def test_the_same_form_has_one_effect(shop: Shop) -> None:
    url = ordered(shop, "TWICE")
    once = re.search(r'name="once" value="([0-9a-f]+1)"', httpx.get(url).text)
    assert once is not None
    form = {"once": once[1], "act": "fewer", "line": "1", "less": "1"}
    answers = [httpx.post(url, data=form) for _ in range(3)]
    assert {(each.status_code, each.headers["location"]) for each in answers} == {
        (303, answers[0].headers["location"])}  # fmt: skip
    assert parts(shop, "TWICE") == {"reserved": "2", "cancelled": "1"}
    assert httpx.post(url, data={**form, "less": "2"}).status_code == 422


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"act": "cancel"},
        {"act": "explode"},
        {"act": "fewer"},
        {"act": "fewer", "line": "9", "less": "1"},
        {"act": "fewer", "line": "1", "less": "-1"},
        {"act": "fewer", "line": "1", "less": "4"},
        {"act": "fewer", "line": "1", "less": "x"},
        {"act": "day"},
        {"act": "day", "day": "2020-01-01"},
        {"act": "day", "day": "soon"},
        {"act": "cancel", "more": "1"},
        {"act": "address", "country": "DE", "postcode": "1"},
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_has_no_effect_and_says_so(shop: Shop, form: dict[str, str]) -> None:
    number = f"BAD-{len(form)}-{next(numbers)}"
    url = ordered(shop, number)
    once = {} if form == {"act": "cancel"} else {"once": "1"}
    answer = httpx.post(url, data={**once, **form})
    assert 400 <= answer.status_code < 500, answer.text
    assert 'role="alert"' in answer.text
    assert parts(shop, number) == {"reserved": "3"}
    assert (
        httpx.post(url, content=b"\xff", headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code
        == 422
    )
    assert httpx.post(url, json={"once": "1", "act": "cancel"}).status_code == 422
    assert httpx.put(url).status_code == 405
    assert parts(shop, number) == {"reserved": "3"}


def test_a_page_says_why_there_are_several_parts(shop: Shop) -> None:
    shop.stock("KETTLE", 0)
    shop.stock("PLATE", 0, "MUC-DC")
    url = ordered(shop, "PARTS", ("KETTLE", "1"), ("PLATE", "1"))
    text = httpx.get(url).text
    shop.stock("KETTLE", 1_000)
    shop.stock("PLATE", 1_000, "MUC-DC")
    assert "Part 2 of 2" in text
    assert "No single place had all of it" in text


@pytest.mark.parametrize(
    ("item", "number", "due_in", "most", "is_said"),
    [
        ("KETTLE", "FAR", 400, None, True),
        ("KETTLE", "LATE", -1, None, False),
        ("KETTLE", "APART", 400, 1, False),
        ("BREAKFAST", "FAR-SET", 400, None, True),
        ("BREAKFAST", "APART-SET", 400, 1, False),
    ],
)
def test_a_day_is_said_only_of_what_is_still_to_come(
    shop: Shop, item: str, number: str, due_in: int, most: int | None, is_said: bool
) -> None:
    """Of a receipt that is late, and of one that is due while there is stock enough, nobody says a day."""
    part, other = ("PLATE" if item == "BREAKFAST" else item), "PAN"
    due = shop.clock().date() + timedelta(days=due_in)
    receipt = {"reference": number, "item": part, "node": "HAM-DC", "pool": "web", "quantity": "4",
               "due_on": due.isoformat()}  # fmt: skip
    shop.stock(part, 0)
    shop.stock(part, 99 if most else 0, "MUC-DC")
    shop.stock(other, 0, "MUC-DC")
    url = ordered(shop, number, (other, "1"), (item, "1"), max_shipments=most)
    shop.post("/v1/receipts", {"receipts": [receipt]})
    (told,), text = shop.get(f"/v1/orders/{number}").json()["waits"], httpx.get(url).text
    shop.post("/v1/receipts", {"receipts": [{**receipt, "cancelled": True, "sequence": 1}]})
    shop.post(f"/v1/orders/{number}/cancellations", {})
    for each, node in itertools.product((part, other), ("HAM-DC", "MUC-DC")):
        shop.stock(each, 1_000, node)
    assert told["expected_on"] == (due.isoformat() if is_said else None)
    words = f"expected {due:%A} {due.day} {due:%B} {due.year}" if is_said else "we do not know yet when it comes"
    assert f": {words}</li>" in text


def test_what_goes_to_another_order_is_not_cancelled(shop: Shop) -> None:
    """An order is divided, some of it is cancelled, and the rest is joined again: two parts of one place."""
    url, other = ordered(shop, "WHOLE", ("MUG-BLUE", "9")), "WHOLE-B"
    answer = shop.post("/v1/orders/WHOLE/divisions", {"number": other, "lines": [{"no": 1, "quantity": "3"}]})
    assert answer.status_code == 200, answer.text
    texts = [httpx.get(url).text]
    shop.post("/v1/orders/WHOLE/cancellations", {"lines": [{"no": 1, "quantity": "2"}]})
    gone = link(shop, other)
    assert shop.post("/v1/orders/WHOLE/joins", {"other": other}).status_code == 200
    texts.append(httpx.get(url).text)
    assert ["Cancelled</h2>" in text for text in texts] == [False, True]
    assert "<li>2 × Mug, blue</li>" in texts[1]
    assert "<h2>Part 2 of 2</h2>" in texts[1]
    assert "several places" not in texts[1]
    assert "Cancelled</h2>" not in (text := httpx.get(gone).text)
    assert "<h1>Your order is a part of another one now</h1>" in text


def test_an_address_is_changed_where_the_policy_lets_customers(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    url = ordered(shop, "MOVED")
    form = {"once": "1", "act": "address", "name": "Ada", "street": "New Street 1", "postcode": "20095",
            "city": "Hamburg", "country": "DE"}  # fmt: skip
    assert "Another address" not in httpx.get(url).text
    assert httpx.post(url, data=form).status_code == 409
    under(monkeypatch, CustomerTerms(may=(CustomerAct.ADDRESS,)))
    assert "Another address" in httpx.get(url).text
    assert "Cancel the order" not in httpx.get(url).text
    assert httpx.post(url, data={**form, "once": "2"}).status_code == 303
    contact = shop.rows(b"SELECT data ->> 'street' FROM contact ORDER BY id DESC LIMIT 1")
    assert contact == [("New Street 1",)]
    assert parts(shop, "MOVED") == {"reserved": "3"}
    assert "New Street" not in httpx.get(url).text


def test_an_address_of_which_something_is_missing_is_not_kept(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser would have asked for it; whoever sends without one is told, field by field."""
    url = ordered(shop, "NOWHERE")
    under(monkeypatch, CustomerTerms(may=(CustomerAct.ADDRESS,)))
    kept = shop.rows(b"SELECT count(*) FROM contact")
    form = {"act": "address", "name": " ", "street": "", "postcode": "20095", "city": "Hamburg", "country": "DE"}
    answer = httpx.post(url, data={**form, "once": "1"})
    assert answer.status_code == 422
    assert "Name is missing. Street and number is missing. Nothing was changed." in answer.text
    wrong = httpx.post(url, data={**form, "once": "2", "name": "Ada", "street": "New Street 1", "country": "d"})
    assert "Country is not a country code of two capital letters. Nothing was changed." in wrong.text
    assert shop.rows(b"SELECT count(*) FROM contact") == kept


def test_what_a_browser_sends_is_answered_with_a_page(shop: Shop) -> None:
    """Too long a form, too, and one whose type is written in capitals."""
    url = ordered(shop, "SENT-SO")
    answer = httpx.post(url, data={"once": "1", "act": "cancel", "less": "x" * 10_001})
    assert (answer.status_code, answer.headers["content-type"]) == (413, "text/html; charset=utf-8")
    assert "<title>That is too long" in answer.text
    capitals = {"Content-Type": "Application/X-WWW-Form-Urlencoded; charset=UTF-8"}
    assert httpx.post(url, content=b"once=2&act=cancel", headers=capitals).status_code == 303
    assert parts(shop, "SENT-SO") == {"cancelled": "3"}


def test_the_day_that_is_offered_first_is_the_first_that_may_be_asked_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour before midnight by UTC, in the zone of the order the next day has begun."""
    url, ahead = ordered(shop, "AT-NIGHT"), shop.clock.ahead
    day = shop.clock().date()
    midnight = datetime.combine(day + timedelta(days=1), time.min, UTC)
    monkeypatch.setattr(shop.clock, "ahead", ahead + (midnight - timedelta(minutes=30) - shop.clock()))
    offered = re.search(r'type="date" min="([0-9-]+)"', httpx.get(url).text)
    assert offered is not None
    assert offered[1] == (day + timedelta(days=1)).isoformat()
    answers = [httpx.post(url, data={"once": str(no), "act": "day", "day": (day + timedelta(days=no)).isoformat()})
               for no in (0, 1)]  # fmt: skip
    assert [each.status_code for each in answers] == [422, 303]


def test_the_policy_says_until_when(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    under(monkeypatch, CustomerTerms(until=Until.RELEASED))
    url = ordered(shop, "UNTIL")
    old = re.search(r'name="once" value="([0-9a-f]+0c)"', httpx.get(url).text)
    assert old is not None
    shop.release()
    assert "cannot be changed any more" in httpx.get(url).text
    assert httpx.post(url, data={"once": old[1], "act": "cancel"}).status_code == 409
    assert parts(shop, "UNTIL") == {"released": "3"}


def test_what_is_collected_is_never_on_its_way(shop: Shop, context: BrowserContext) -> None:
    shop.stock("MUG-GREEN", 5, "BER-SHOP")
    body = {
        "number": "COUNTER",
        "channel": "web",
        "collect_at": "BER-SHOP",
        "lines": [{"item": "MUG-GREEN", "quantity": "1"}],
    }
    assert shop.post("/v1/orders", body).status_code == 201, shop.get("/v1/orders/COUNTER").text
    shop.decide()
    shop.release()
    report(shop, "COUNTER", "ready")
    page = opened(context, link(shop, "COUNTER"))
    assert page.get_by_role("heading", level=1).inner_text() == "Your order is ready to collect"
    assert "Waits for you at" in page.inner_text("main")
    steps = ["Ordered (done)", "Being prepared (done)", "Ready to collect", "Collected"]
    assert page.locator(".steps li").all_text_contents() == steps
    report(shop, "COUNTER", "delivered")
    page.reload()
    assert page.get_by_role("heading", level=1).inner_text() == "Your order is collected"


TOLD: dict[str, tuple[list[str], list[str]]] = {
    "AGAIN": (
        ["picked", "picked", "shipped", "picked", "shipped", "delivered", "failed", "shipped", "delivered"],
        ["It is packed.", "It has left.", "It was delivered."],
    ),
    "TRIED": (
        ["shipped", "failed", "failed", "delivered"],
        ["It has left.", "It could not be delivered.", "It was delivered."],
    ),
    "TOO-LATE": (["cancel", "picked"], ["Something of it was cancelled."]),
    "IN-PARTS": (["shipped 2", "shipped"], ["It has left.", "It has left."]),
    "UNDONE": (["delivered", "short 8"], []),
}


@pytest.mark.parametrize("number", TOLD)
def test_what_changed_nothing_or_was_undone_is_no_news(shop: Shop, number: str) -> None:
    """The page tells of each report that had an effect, once."""
    acts, told = TOLD[number]
    morning(shop)
    shop.stock("PLATE", 1_000)
    url = ordered(shop, number, ("BREAKFAST", "4") if number == "UNDONE" else ("MUG-BLUE", "3"))
    shop.release()
    for place, act in enumerate(acts):
        shop.clock.ahead += timedelta(minutes=2)
        kind, _, units = act.partition(" ")
        lines = [{"item": "PLATE" if number == "UNDONE" else "MUG-BLUE", "quantity": units}] if units else []
        if kind == "cancel":
            shop.post(f"/v1/orders/{number}/cancellations", {})
        else:
            report(shop, number, kind, id=f"{number}-{place}", lines=lines)
    news = re.findall(r"</time> (.+)</li>", httpx.get(url).text)
    assert news == [*reversed(told), "It is being prepared.", "We received your order."]
    shop.stock("PLATE", 1_000)


def under(monkeypatch: pytest.MonkeyPatch, terms: CustomerTerms) -> None:
    """Another policy in force, for this story."""
    atlas = RULES.current()
    policy = replace(atlas.policy.policy, customers=terms)
    monkeypatch.setattr(RULES, "_atlas", Atlas(atlas.edition, compile_policy(policy)))

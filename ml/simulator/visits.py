"""What happens in one visit: its events, their times and what each row carries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.simulator import catalogue as cat
from ml.simulator.catalogue import CHANNEL, EVENT, PAGE, among
from ml.simulator.people import Bools, People
from ml.simulator.rows import SLOT_BITS, Array, Rows
from ml.simulator.spec import DAY_MS, WorldSpec
from ml.simulator.streams import Stream

# A visit's rows in the order of time. Slots from LAST_SITE_SLOT on are aftermath: they happen hours or days later, without a device.
(OPENED, TRIGGER, LANDING, ACCOUNT, BROWSE) = range(5)
BROWSES = 8
SUBSCRIBED, CHAT_STARTED, CHAT_FIRST, CHAT_SECOND, CART, CHECKOUT, ORDER, REVIEW = range(BROWSE + BROWSES, BROWSE + BROWSES + 8)
LAST_SITE_SLOT = REVIEW + 1
TICKET, SOLVED, REFUND = range(LAST_SITE_SLOT, LAST_SITE_SLOT + 3)
SLOTS = REFUND + 1
assert SLOTS <= 1 << SLOT_BITS

SITE, MAIL_ONLY, CALL, STORE = range(4)  # kinds of contact
PURCHASE_STAGE, POST_SALE_STAGE = 3, 4
# the mean number of pages after the landing page and the share of them that are products, by stage
BROWSE_MEAN = np.array([1.95, 3.4, 3.2, 2.4, 1.5])
PRODUCT_SHARE = np.array([0.25, 0.6, 0.65, 0.5, 0.15])
PAGES_BASE = 0.35  # added before the number of pages is rounded down
CART_RATE = np.array([0.01, 0.08, 0.55, 0.85, 0.02])
CHECKOUT_RATE = np.array([0.0, 0.01, 0.35, 1.0, 0.0])
GAP_MEAN_MS, GAP_LEAST_MS, GAP_MOST_MS = 45_000, 2_000, 9 * 60_000
HOUR_MS = 3_600_000
TICKET_RATE, REFUND_RATE, REVIEW_RATE = 0.09, 0.07, 0.10
PHONE_AT_CHECKOUT = 0.4

_TRIGGER_EVENT = np.array([
    {"paid_search": EVENT["ad_clicked"], "display": EVENT["ad_clicked"], "paid_social": EVENT["ad_clicked"], "social": EVENT["social_post_clicked"],
     "email": EVENT["email_clicked"], "push": EVENT["push_opened"]}.get(name, 0) for name in cat.ENTRY_CHANNELS
])  # fmt: skip
_TRIGGER_SHARE = np.array([{"social": 0.6, "display": 0.9, "paid_search": 0.5, "paid_social": 0.7}.get(name, 1.0) for name in cat.ENTRY_CHANNELS])
_ENTRY_FIRST = np.array([cat.ENTRIES_OF[name][0] for name in cat.ENTRY_CHANNELS])
_ENTRY_COUNT = np.array([len(cat.ENTRIES_OF[name]) for name in cat.ENTRY_CHANNELS])
_CHANNEL_OF_EVENT = np.zeros(len(cat.EVENTS), dtype=np.int64)
for _event, _channel in {
    "email_opened": "email", "email_clicked": "email", "push_opened": "app", "chat_started": "chat", "chat_message_sent": "chat", "crm_call_logged": "crm",
    "support_ticket_opened": "support", "support_ticket_solved": "support", "social_post_clicked": "social", "ad_clicked": "ads", "store_visited": "offline",
    "order_refunded": "crm",
}.items():  # fmt: skip
    _CHANNEL_OF_EVENT[EVENT[_event]] = CHANNEL[_channel]


@dataclass
class Visits:
    """One visit of each customer in `who` (places in the block). key: the visit's serial with slot 0. is_registered: as the visit ends."""

    who: Array
    key: Array
    start: Array
    stage: Array
    contact: Array
    agent: Array
    is_app: Bools
    way_in: Array
    cookie: Array
    was_logged_in: Bools
    signs_up: Bools
    logs_in: Bools
    subscribes: Bools
    chats: Bools
    buys: Bools
    is_registered: Bools


@dataclass
class _Cells:
    """The rows of the visits: place of the visit, slot in it, serial, code of the event, instant."""

    visit: Array
    slot: Array
    serial: Array
    event: Array
    occurred: Array


def visit_rows(people: People, visits: Visits, spec: WorldSpec, stream: Stream) -> tuple[Rows, Array]:
    """The visits' rows (by customer, then slot), and when each visit ended (epoch ms)."""
    codes = _events(visits, stream)
    times = _times(visits, codes, stream)
    present = (codes > 0) & (times < spec.end_ms)
    ended = np.where(present[:, :LAST_SITE_SLOT], times[:, :LAST_SITE_SLOT], 0).max(axis=1)
    visit, slot = np.nonzero(present)
    cells = _Cells(visit, slot, visits.key[visit] + slot, codes[visit, slot], times[visit, slot])
    return _filled(people, visits, cells, stream), np.maximum(ended, visits.start)


def _events(visits: Visits, stream: Stream) -> Array:
    """(visits, SLOTS) event codes, 0 where there is none."""
    key, stage = visits.key, visits.stage
    on_site = visits.contact == SITE
    codes = np.zeros((len(key), SLOTS), dtype=np.int64)
    by_mail = on_site & (_TRIGGER_EVENT[visits.way_in] == EVENT["email_clicked"])
    codes[:, OPENED] = EVENT["email_opened"] * (by_mail | (visits.contact == MAIL_ONLY))
    triggered = on_site & (stream.uniform("trigger", key) < _TRIGGER_SHARE[visits.way_in])
    contact_event = np.array([0, 0, EVENT["crm_call_logged"], EVENT["store_visited"]])[visits.contact]
    codes[:, TRIGGER] = np.where(on_site, _TRIGGER_EVENT[visits.way_in] * triggered, contact_event)
    codes[:, LANDING] = EVENT["page_viewed"] * on_site
    codes[:, ACCOUNT] = np.where(visits.signs_up, EVENT["signed_up"], np.where(visits.logs_in, EVENT["logged_in"], 0))

    pages = np.minimum(stream.exponential("pages", key) * BROWSE_MEAN[stage] + PAGES_BASE, BROWSES).astype(np.int64) * on_site
    slot_keys = key[:, None] + np.arange(BROWSE, BROWSE + BROWSES)
    is_product = stream.uniform("is_product", slot_keys) < PRODUCT_SHARE[stage][:, None]
    browsed = np.where(is_product, EVENT["product_viewed"], EVENT["page_viewed"])
    codes[:, BROWSE : BROWSE + BROWSES] = np.where(np.arange(BROWSES) < pages[:, None], browsed, 0)

    codes[:, SUBSCRIBED] = EVENT["newsletter_subscribed"] * visits.subscribes
    codes[:, CHAT_STARTED] = EVENT["chat_started"] * visits.chats
    codes[:, CHAT_FIRST] = EVENT["chat_message_sent"] * visits.chats
    codes[:, CHAT_SECOND] = EVENT["chat_message_sent"] * (visits.chats & (stream.uniform("second_message", key) < 0.6))
    fills = on_site & (stream.uniform("cart", key) < CART_RATE[stage])
    checks_out = visits.buys | (fills & (stream.uniform("checkout", key) < CHECKOUT_RATE[stage]))
    codes[:, CART] = EVENT["product_added_to_cart"] * fills
    codes[:, CHECKOUT] = EVENT["checkout_started"] * checks_out
    codes[:, ORDER] = EVENT["order_completed"] * visits.buys
    codes[:, REVIEW] = EVENT["review_posted"] * (on_site & (stage == POST_SALE_STAGE) & (stream.uniform("review", key) < REVIEW_RATE))
    asks = visits.buys & (stream.uniform("ticket", key) < TICKET_RATE)
    codes[:, TICKET] = EVENT["support_ticket_opened"] * asks
    codes[:, SOLVED] = EVENT["support_ticket_solved"] * (asks & (stream.uniform("solved", key) < 0.85))
    codes[:, REFUND] = EVENT["order_refunded"] * (visits.buys & (stream.uniform("refund", key) < REFUND_RATE))
    return codes


def _times(visits: Visits, codes: Array, stream: Stream) -> Array:
    """(visits, SLOTS) epoch ms: gaps of 2 seconds to 9 minutes inside a visit, hours and days for its aftermath."""
    keys = visits.key[:, None] + np.arange(SLOTS)
    gaps = np.minimum(GAP_LEAST_MS + stream.exponential("gap", keys) * GAP_MEAN_MS, GAP_MOST_MS).astype(np.int64)
    gaps[:, LAST_SITE_SLOT:] = 0
    times = visits.start[:, None] + np.cumsum(gaps * (codes > 0), axis=1)
    bought = times[:, ORDER]
    times[:, TICKET] = bought + (stream.uniform("ticket_wait", visits.key) * 6 * DAY_MS).astype(np.int64) + HOUR_MS
    times[:, SOLVED] = times[:, TICKET] + (stream.exponential("solving", visits.key) * 20 * HOUR_MS).astype(np.int64) + 600_000
    times[:, REFUND] = bought + ((2 + stream.uniform("refund_wait", visits.key) * 18) * DAY_MS).astype(np.int64)
    return times


def _filled(people: People, visits: Visits, cells: _Cells, stream: Stream) -> Rows:
    visit, slot, serial, event = cells.visit, cells.slot, cells.serial, cells.event
    local = visits.who[visit]
    in_app = visits.is_app[visit]
    mailed = among(event, "email_opened", "email_clicked")
    aftermath = slot >= LAST_SITE_SLOT
    has_cookie = (visits.contact[visit] == SITE) & ~mailed & ~aftermath
    way_in = visits.way_in[visit]
    entry_choice = _ENTRY_FIRST[way_in] + (stream.uniform("entry", visits.key)[visit] * _ENTRY_COUNT[way_in]).astype(np.int64)
    is_entering = has_cookie & ((slot == LANDING) | (slot == TRIGGER)) & ~in_app

    # an e-mail is opened before the visit's sign-up, a refund comes after it
    registered = visits.is_registered[visit] & ~(visits.signs_up[visit] & mailed)
    known_by_login = has_cookie & (visits.was_logged_in[visit] | ((visits.signs_up | visits.logs_in)[visit] & (slot >= ACCOUNT)))
    # systems without a device name the customer by account where there is one, else by what the customer left there
    by_account = registered & (mailed | among(event, "crm_call_logged", "store_visited", "order_refunded"))
    user = (known_by_login | by_account).astype(np.int64)
    calls, checks_out = event == EVENT["crm_call_logged"], event == EVENT["checkout_started"]
    gives_mail = checks_out | among(event, "signed_up", "newsletter_subscribed", "order_completed", "support_ticket_opened", "support_ticket_solved")
    gives_mail |= (mailed | (event == EVENT["order_refunded"])) & ~registered
    gives_phone = people.has_phone[local] & ((checks_out & (stream.uniform("phone", serial) < PHONE_AT_CHECKOUT)) | calls)
    gives_mail |= calls & ~registered & ~gives_phone
    # the shop's forms keep what was typed: some customers write their address with capitals, and call centres write numbers with spaces
    spelling = 1 + people.other_spelling[local].astype(np.int64)

    lands_from_mail = is_entering & (slot == LANDING) & (way_in == cat.ENTRY_CHANNELS.index("email"))
    product, page = _pages(visits, cells, stream)
    amount, order = _orders(visits, cells, stream)
    return Rows.blank(
        serial, local=local, stage=visits.stage[visit], event=event, occurred=cells.occurred, received=cells.occurred, delivered=cells.occurred,
        channel=np.where((_CHANNEL_OF_EVENT[event] == CHANNEL["web"]) & in_app & has_cookie, CHANNEL["app"], _CHANNEL_OF_EVENT[event]),
        cookie=np.where(has_cookie, visits.cookie[visit], -1), user=user, email=gives_mail * spelling,
        phone=gives_phone * np.where(calls, 2, 1), agent=np.where(has_cookie, visits.agent[visit], 0),
        page=np.where(has_cookie, page, 0), entry=np.where(is_entering | mailed, entry_choice, 0),
        leak=_leaks(lands_from_mail, serial, stream), product=product, amount=amount, order=order,
        text=_texts(event, serial, stream),
    )  # fmt: skip


def _pages(visits: Visits, cells: _Cells, stream: Stream) -> tuple[Array, Array]:
    """Products (-1 for none) and pages. A visit turns around one product and looks at a few others."""
    visit, serial, event = cells.visit, cells.serial, cells.event
    favourite = stream.below("favourite", visits.key, len(cat.PRODUCTS))[visit]
    other = stream.below("other_product", serial, len(cat.PRODUCTS))
    on_product = among(event, "product_viewed", "product_added_to_cart", "checkout_started", "order_completed", "order_refunded", "review_posted")
    strays = (event == EVENT["product_viewed"]) & (stream.uniform("strays", serial) < 0.5)
    product = np.where(on_product, np.where(strays, other, favourite), -1)
    browsed = np.asarray(cat.BROWSED_PAGES, dtype=np.int64)[stream.below("page", serial, len(cat.BROWSED_PAGES))]
    fixed = np.zeros(len(cat.EVENTS), dtype=np.int64)
    for name, path in {"checkout_started": "/checkout", "order_completed": "/order/confirmed", "logged_in": "/account", "signed_up": "/account"}.items():
        fixed[EVENT[name]] = PAGE[path]
    page = np.where(fixed[event] > 0, fixed[event], np.where(product >= 0, cat.FIRST_PRODUCT_PAGE + product, browsed))
    # an advertisement leads to the page that it was clicked for
    landing = np.asarray(cat.BROWSED_PAGES, dtype=np.int64)[stream.below("landing_page", visits.key, len(cat.BROWSED_PAGES))][visit]
    page = np.where(cells.slot <= LANDING, landing, page)
    return product, page


def _orders(visits: Visits, cells: _Cells, stream: Stream) -> tuple[Array, Array]:
    """Cents (refunds negative) and the order's key. One to three pieces of the product that the visit turned around."""
    visit, event = cells.visit, cells.event
    favourite = stream.below("favourite", visits.key, len(cat.PRODUCTS))
    pieces = 1 + stream.chosen("pieces", visits.key, np.array([0.7, 0.22, 0.08]))
    total = np.asarray([product.cents for product in cat.PRODUCTS], dtype=np.int64)[favourite] * pieces
    part = np.where(stream.uniform("partial_refund", visits.key) < 0.3, total // 2, total)
    amount = np.where(event == EVENT["order_completed"], total[visit], np.where(event == EVENT["order_refunded"], -part[visit], 0))
    concerned = among(event, "order_completed", "order_refunded")
    return amount, np.where(concerned, (visits.key[visit] >> SLOT_BITS) + 1, 0)


def _leaks(from_mail: Bools, serial: Array, stream: Stream) -> Array:
    """Mailings that put the reader's address into their links, as real ones do."""
    draw = stream.uniform("leak", serial)
    return np.where(from_mail & (draw < 0.12), np.where(draw < 0.08, 1, 2), 0)


def _texts(event: Array, serial: Array, stream: Stream) -> Array:
    text = np.zeros(len(event), dtype=np.int64)
    for name, first, count in (
        ("chat_message_sent", cat.FIRST_CHAT, len(cat.CHAT_TEXTS)), ("support_ticket_opened", cat.FIRST_TICKET, len(cat.TICKET_TEXTS)),
        ("review_posted", cat.FIRST_REVIEW, len(cat.REVIEW_TEXTS)), ("crm_call_logged", cat.FIRST_CALL, len(cat.CALL_TEXTS)),
    ):  # fmt: skip
        text = np.where(event == EVENT[name], first + stream.below("text", serial, count), text)
    return text

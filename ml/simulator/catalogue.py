"""The shop's fixed tables: events, pages, campaigns, devices, places and texts. Codes of Rows are places in these tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SITE = "https://www.waymark-store.example"

# name in our words, name in the export where the firm has its own
EVENTS: tuple[tuple[str, str], ...] = (
    ("none", ""),
    ("page_viewed", "Page View"),
    ("product_viewed", "product_viewed"),
    ("product_added_to_cart", "Add To Cart"),
    ("checkout_started", "checkout_started"),
    ("order_completed", "order_placed"),
    ("order_refunded", "refund_issued"),
    ("logged_in", "logged_in"),
    ("signed_up", "signed_up"),
    ("email_opened", "email_opened"),
    ("email_clicked", "email_clicked"),
    ("push_opened", "push_opened"),
    ("chat_started", "chat_started"),
    ("chat_message_sent", "chat_message_sent"),
    ("support_ticket_opened", "ticket_created"),
    ("support_ticket_solved", "ticket_closed"),
    ("crm_call_logged", "crm_call_logged"),
    ("social_post_clicked", "social_post_clicked"),
    ("ad_clicked", "ad_clicked"),
    ("store_visited", "store_visited"),
    ("newsletter_subscribed", "newsletter_signup"),
    ("review_posted", "review_posted"),
)
EVENT = {name: code for code, (name, _) in enumerate(EVENTS)}


def among(codes: npt.NDArray[np.int64], *names: str) -> npt.NDArray[np.bool_]:
    """Which codes are those of the named events."""
    table = np.zeros(len(EVENTS), dtype=np.bool_)
    table[[EVENT[name] for name in names]] = True
    return np.asarray(table[codes], dtype=np.bool_)


CHANNELS = ("web", "app", "email", "chat", "crm", "support", "social", "ads", "offline")
CHANNEL = {name: code for code, name in enumerate(CHANNELS)}

STAGES = ("awareness", "consideration", "intent", "purchase", "post_sale")

CATEGORIES = ("bags", "shoes", "outdoor", "kitchen", "lighting")
_NOUNS = {
    "bags": ("tote", "rucksack", "satchel", "duffel"),
    "shoes": ("boot", "trainer", "sandal", "loafer"),
    "outdoor": ("tent", "lantern", "flask", "hammock"),
    "kitchen": ("kettle", "skillet", "teapot", "grinder"),
    "lighting": ("desk-lamp", "floor-lamp", "pendant", "candle"),
}
_FINISHES = ("amber", "birch", "cobalt", "dune", "elm", "fjord", "granite", "heather", "indigo", "juniper")


class Product(NamedTuple):
    sku: str
    slug: str
    category: str
    cents: int


PRODUCTS: tuple[Product, ...] = tuple(
    Product(f"SKU-{(c * 4 + n) * 10 + f:04d}", f"{finish}-{noun}", category, 990 + (c * 4711 + n * 1987 + f * 733) % 19000 // 100 * 100 + 90)
    for c, category in enumerate(CATEGORIES)
    for n, noun in enumerate(_NOUNS[category])
    for f, finish in enumerate(_FINISHES)
)

PAGES: tuple[str, ...] = ("", "/", "/account", "/cart", "/checkout", "/order/confirmed", "/orders", "/stores", *(f"/c/{name}" for name in CATEGORIES),
                          "/journal/packing-light", "/journal/care-guide", "/journal/field-notes", "/journal/our-makers")  # fmt: skip
PAGE = {path: code for code, path in enumerate(PAGES)}
FIRST_PRODUCT_PAGE = len(PAGES)
BROWSED_PAGES = tuple(code for path, code in PAGE.items() if path == "/" or path.startswith(("/c/", "/journal/")))
SCREENS = tuple(path.strip("/").replace("/", "_") or "home" for path in PAGES)


class Entry(NamedTuple):
    """How a visit comes in: what the landing page's URL and referrer say."""

    channel: str
    query: str
    click_parameter: str
    referrer: str


ENTRIES: tuple[Entry, ...] = (
    Entry("none", "", "", ""),
    Entry("direct", "", "", ""),
    Entry("organic_search", "", "", "https://www.google.com/"),
    Entry("organic_search", "", "", "https://www.bing.com/"),
    Entry("organic_search", "", "", "https://duckduckgo.com/"),
    Entry("referral", "", "", "https://www.trailnotes.example/best-rucksacks"),
    Entry("referral", "", "", "https://slowhome.example/gift-guide"),
    Entry("paid_search", "utm_source=google&utm_medium=cpc&utm_campaign=brand&utm_term=waymark+store", "gclid", "https://www.google.com/"),
    Entry("paid_search", "utm_source=google&utm_medium=cpc&utm_campaign=generic_bags&utm_term=leather+tote", "gclid", "https://www.google.com/"),
    Entry("paid_search", "", "gclid", "https://www.google.com/"),
    Entry("paid_search", "utm_source=google&utm_medium=cpc&utm_campaign=ios_brand", "gbraid", "https://www.google.com/"),
    Entry("paid_search", "utm_source=bing&utm_medium=cpc&utm_campaign=brand", "msclkid", "https://www.bing.com/"),
    Entry("display", "utm_source=dv360&utm_medium=display&utm_campaign=retargeting&utm_content=banner_300x250", "dclid", "https://news.daily.example/"),
    Entry("paid_social", "utm_source=facebook&utm_medium=paid_social&utm_campaign=spring_prospecting", "fbclid", "https://l.facebook.com/"),
    Entry("paid_social", "utm_source=instagram&utm_medium=paid_social&utm_campaign=spring_retargeting", "fbclid", "https://l.instagram.com/"),
    Entry("paid_social", "utm_source=tiktok&utm_medium=paid_social&utm_campaign=makers_video", "ttclid", "https://www.tiktok.com/"),
    Entry("social", "utm_source=instagram&utm_medium=social&utm_campaign=journal", "", "https://l.instagram.com/"),
    Entry("social", "", "fbclid", "https://m.facebook.com/"),
    Entry("social", "", "", "https://www.pinterest.com/"),
    Entry("social", "", "twclid", "https://t.co/"),
    Entry("email", "utm_source=newsletter&utm_medium=email&utm_campaign=weekly", "", ""),
    Entry("email", "utm_source=newsletter&utm_medium=email&utm_campaign=spring_sale", "", "https://mail.google.com/"),
    Entry("email", "utm_source=lifecycle&utm_medium=email&utm_campaign=cart_reminder", "", ""),
    Entry("push", "", "", ""),
)
ENTRY_CHANNELS = ("direct", "organic_search", "referral", "paid_search", "display", "paid_social", "social", "email", "push")
ENTRIES_OF = {channel: tuple(code for code, entry in enumerate(ENTRIES) if entry.channel == channel) for channel in ENTRY_CHANNELS}


class Agent(NamedTuple):
    user_agent: str
    device: str
    os: str
    is_app: bool = False


_GECKO = "AppleWebKit/537.36 (KHTML, like Gecko)"
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
AGENTS: tuple[Agent, ...] = (
    Agent("", "", ""),
    Agent(f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {_GECKO} Chrome/131.0.0.0 Mobile Safari/537.36", "mobile", "Android"),
    Agent(f"Mozilla/5.0 (Linux; Android 13; SM-S911B) {_GECKO} Chrome/130.0.0.0 Mobile Safari/537.36", "mobile", "Android"),
    Agent(f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {_WEBKIT} Version/18.1 Mobile/15E148 Safari/604.1", "mobile", "iOS"),
    Agent(f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) {_WEBKIT} Version/17.6 Mobile/15E148 Safari/604.1", "mobile", "iOS"),
    Agent(f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_GECKO} Chrome/131.0.0.0 Safari/537.36", "desktop", "Windows"),
    Agent(f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_GECKO} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0", "desktop", "Windows"),
    Agent("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0", "desktop", "Windows"),
    Agent(f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Version/18.1 Safari/605.1.15", "desktop", "macOS"),
    Agent(f"Mozilla/5.0 (X11; Linux x86_64) {_GECKO} Chrome/131.0.0.0 Safari/537.36", "desktop", "Linux"),
    Agent(f"Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) {_WEBKIT} Version/18.1 Mobile/15E148 Safari/604.1", "tablet", "iOS"),
    Agent("WaymarkStore/5.2.1 (iPhone; iOS 18.1; Scale/3.00)", "mobile", "iOS", True),
    Agent("WaymarkStore/5.2.1 (Android 14; Pixel 8)", "mobile", "Android", True),
    Agent("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "desktop", ""),
    Agent("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "desktop", ""),
    Agent("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "desktop", ""),
    Agent("Screaming Frog SEO Spider/21.0", "desktop", ""),
    Agent("facebookexternalhit/1.1 (compatible; crawler; +http://www.facebook.com/externalhit_uatext.php)", "desktop", ""),
    Agent("PriceWatch-Crawler/3.4 (+https://pricewatch.example/crawler)", "desktop", ""),
)
PHONES, DESKTOPS, TABLETS, APPS, CRAWLERS = (1, 2, 3, 4), (5, 6, 7, 8, 9), (10,), (11, 12), (13, 14, 15, 16, 17, 18)

# country, city, calling code; customers in euro countries pay in EUR
PLACES: tuple[tuple[str, str, str], ...] = (
    ("US", "Boston", "+1"), ("US", "Austin", "+1"), ("US", "Portland", "+1"), ("US", "Chicago", "+1"), ("GB", "Leeds", "+44"),
    ("CH", "Basel", "+41"), ("DE", "Leipzig", "+49"), ("FR", "Nantes", "+33"), ("CA", "Toronto", "+1"), ("US", "Denver", "+1"),
)  # fmt: skip
EURO_PLACES = tuple(code for code, place in enumerate(PLACES) if place[0] in {"DE", "FR"})

CONSENTS = ("analytics|marketing", "analytics", "")

FIRST_NAMES = ("anna", "ben", "carla", "dario", "elena", "felix", "grace", "hugo", "ines", "jonas", "kira", "liam", "mara", "noah", "olga", "paul",
               "quinn", "rosa", "sven", "tara", "umar", "vera", "wim", "yara", "zoe")  # fmt: skip
LAST_NAMES = ("abbott", "bauer", "costa", "dubois", "evans", "fischer", "garcia", "huber", "ito", "jansen", "keller", "lopez", "meyer", "novak", "okafor",
              "petit", "quist", "rossi", "smith", "tanaka", "urban", "vogel", "weber", "young", "zeller")  # fmt: skip
MAIL_DOMAINS = ("postbox.example", "inbox.example", "mail.example", "webmail.example")
STAFF_DOMAIN = "waymark-store.example"

# {email}, {phone} and {order} are filled in; such free text is never evidence of who somebody is
CHAT_TEXTS = (
    "Hi, is this still in stock?", "How long does delivery take to my city?", "Does the discount apply to sale items, too?", "Thanks, that helps!",
    "Can you write to me at {email} once it is back?", "Please call me on {phone}, typing is slow.", "Which size should I take?", "Is the strap real leather?",
    "Could I pick it up in the store?", "The page says \"\"sold out\"\" but the app does not.",
)  # fmt: skip
TICKET_TEXTS = (
    "My parcel has not arrived yet.", "Order {order} came with a scratch, please advise.", "I'd like to return one item. Reach me at {email}.",
    "The invoice shows the wrong address, my phone is {phone}.", "Wrong colour delivered, can I swap it?", "Please cancel order {order}.",
)  # fmt: skip
REVIEW_TEXTS = ("Lovely, exactly as pictured.", "Solid, a little heavy.", "Good value, slow delivery.", "The colour fades after a week.", "Would buy again.")
CALL_TEXTS = ("Asked about delivery, answered.", "Left a voicemail.", "Interested, send the spring offer.", "Wants a quote for twelve pieces.")
FIRST_CHAT = 1
FIRST_TICKET = FIRST_CHAT + len(CHAT_TEXTS)
FIRST_REVIEW = FIRST_TICKET + len(TICKET_TEXTS)
FIRST_CALL = FIRST_REVIEW + len(REVIEW_TEXTS)
TEXTS = ("", *CHAT_TEXTS, *TICKET_TEXTS, *REVIEW_TEXTS, *CALL_TEXTS)

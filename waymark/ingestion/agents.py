"""Device, system and browser, told from a user agent by plain rules. `agent` is the user agent in lower case."""

from __future__ import annotations

from waymark.core.quoting import literal

_DEVICE_WORDS = {
    "desktop": ("desktop", "pc", "computer", "laptop", "web", "browser", "macos", "windows", "linux"),
    "mobile": ("mobile", "phone", "smartphone", "ios", "iphone", "android"),
    "tablet": ("tablet", "ipad"),
}
_OS_SIGNS = {
    "ios": ("iphone", "ipad", "ipod"),
    "android": ("android",),
    "windows": ("windows",),
    "macos": ("macintosh", "mac os x"),
    "chromeos": ("cros",),
    "linux": ("linux", "x11"),
}
# The order matters: most browsers name others too.
_BROWSER_SIGNS = {
    "edge": ("edg/", "edga/", "edgios/"),
    "opera": ("opr/", "opera"),
    "samsung": ("samsungbrowser",),
    "firefox": ("firefox", "fxios"),
    "chrome": ("chrome/", "crios"),
    "safari": ("safari", "iphone os"),
}


def _holds(*signs: str) -> str:
    return "(" + " or ".join(f"contains(agent, {literal(sign)})" for sign in signs) + ")"


def _first(signs: dict[str, tuple[str, ...]]) -> str:
    cases = " ".join(f"when {_holds(*words)} then {literal(meaning)}" for meaning, words in signs.items())
    return f"case when agent is null then NULL {cases} else 'other' end"


def device_sql(*, is_mapped: bool) -> str:
    """desktop, mobile, tablet or other: as the source says, else by the user agent; NULL where neither says anything."""
    tablet = f"({_holds('ipad', 'tablet', 'kindle')} or ({_holds('android')} and not {_holds('mobi')}))"
    by_agent = (
        f"case when agent is null then NULL when {tablet} then 'tablet' when {_holds('mobi', 'iphone', 'ipod', 'android')} then 'mobile'"
        f" when {_holds('windows nt', 'macintosh', 'x11', 'cros', 'linux')} then 'desktop' else 'other' end"
    )
    if not is_mapped:
        return by_agent
    words = " ".join(f"when lower(device_type) in ({', '.join(map(literal, said))}) then {literal(meaning)}" for meaning, said in _DEVICE_WORDS.items())
    return f"coalesce(case {words} when device_type is not null then 'other' end, {by_agent})"


def os_sql() -> str:
    return f"coalesce(lower(os), {_first(_OS_SIGNS)})"


def browser_sql() -> str:
    return f"coalesce(lower(browser), {_first(_BROWSER_SIGNS)})"

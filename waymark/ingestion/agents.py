"""Device, system and browser, told from a user agent by plain rules. In SQL, `agent` is the user agent in lower case."""

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
    return f"case {cases} else 'other' end"


def agents_sql(user_agents: str, shown: str) -> str:
    """SELECT of what each user agent tells, one row for each distinct one: visits are many, and their user agents few.

    user_agents: relation with `user_agent`. shown: SQL of its redacted form. Columns: raw_agent, shown_agent, agent_device, agent_os, agent_browser.
    """
    tablet = f"({_holds('ipad', 'tablet', 'kindle')} or ({_holds('android')} and not {_holds('mobi')}))"
    device = (
        f"case when {tablet} then 'tablet' when {_holds('mobi', 'iphone', 'ipod', 'android')} then 'mobile'"
        f" when {_holds('windows nt', 'macintosh', 'x11', 'cros', 'linux')} then 'desktop' else 'other' end"
    )
    distinct = f"select distinct user_agent from {user_agents} where user_agent is not null"
    redacted = f"select user_agent as raw_agent, shown_agent, lower(shown_agent) as agent from (select user_agent, {shown} as shown_agent from ({distinct}))"
    return (
        f"select raw_agent, shown_agent, {device} as agent_device, {_first(_OS_SIGNS)} as agent_os, {_first(_BROWSER_SIGNS)} as agent_browser"
        f" from ({redacted})"
    )


def device_sql(*, is_mapped: bool) -> str:
    """desktop, mobile, tablet or other: as the source says, else by the user agent; NULL where neither says anything."""
    if not is_mapped:
        return "agent_device"
    words = " ".join(f"when lower(device_type) in ({', '.join(map(literal, said))}) then {literal(meaning)}" for meaning, said in _DEVICE_WORDS.items())
    return f"coalesce(case {words} when device_type is not null then 'other' end, agent_device)"

"""What goes wrong when a name, a number or a date is typed: pure functions of the text and of one or two draws in [0, 1). None where it cannot go wrong so."""

from __future__ import annotations

from collections.abc import Callable

from ml.simulator.namebook import NICKNAMES, SHORT_STREETS

# Keys beside each other on a keyboard.
_BESIDE = {
    "a": "qws", "b": "vgn", "c": "xdv", "d": "sfe", "e": "wrd", "f": "dgr", "g": "fht", "h": "gju", "i": "uok", "j": "hkn", "k": "jli", "l": "kop",
    "m": "nkj",
    "n": "bmh", "o": "ipl", "p": "ol", "q": "wa", "r": "etf", "s": "adw", "t": "ryg", "u": "yij", "v": "cbf", "w": "qes", "x": "zcs", "y": "tuh", "z": "xas",
}  # fmt: skip
# Spellings that sound alike, the longer first; each is one way to mishear a name.
_SOUNDS = (
    ("sch", "sh"), ("tz", "z"), ("ck", "k"), ("ph", "f"), ("th", "t"), ("ch", "sh"), ("qu", "k"), ("ei", "ai"), ("ie", "i"), ("ou", "u"), ("au",
     "o"), ("ai", "e"),
    ("ss", "s"), ("ll", "l"), ("nn", "n"), ("tt", "t"), ("rr", "r"), ("pp", "p"), ("mm", "m"), ("ff", "f"), ("ee", "i"), ("oo", "u"), ("ä", "e"), ("ö", "oe"),
    ("ü", "ue"), ("ß", "ss"), ("é", "e"), ("è", "e"), ("ê", "e"), ("ë", "e"), ("ç", "c"), ("y", "i"), ("v", "f"), ("w", "v"), ("z", "s"), ("c",
     "k"), ("x", "ks"),
    ("d", "t"), ("b", "p"), ("g", "k"), ("i", "y"), ("s", "z"), ("t", "d"), ("a", "e"), ("o", "u"), ("e", "a"),
)  # fmt: skip
_MOST_SOUNDS = 4  # of those that occur, one of so many first ones

Fault = Callable[[str, float, float], str | None]


def inserted(text: str, where: float, which: float) -> str | None:
    """A letter too many."""
    place = int(where * (len(text) + 1))
    return text[:place] + "abcdefghijklmnopqrstuvwxyz"[int(which * 26)] + text[place:]


def deleted(text: str, where: float, _: float) -> str | None:
    """A letter too few; two remain at least."""
    place = int(where * len(text))
    return text[:place] + text[place + 1 :] if len(text) > 2 else None


def substituted(text: str, where: float, which: float) -> str | None:
    """The key beside."""
    places = [place for place, letter in enumerate(text) if letter.lower() in _BESIDE]
    if not places:
        return None
    place = places[int(where * len(places))]
    beside = _BESIDE[text[place].lower()]
    return text[:place] + _cased(beside[int(which * len(beside))], text[place]) + text[place + 1 :]


def transposed(text: str, where: float, _: float) -> str | None:
    """Two neighbouring letters exchanged; capitals stay where they were."""
    pairs = [(text[place : place + 2], place) for place in range(len(text) - 1)]
    places = [place for pair, place in pairs if pair.isalpha() and pair[0].lower() != pair[1].lower()]
    if not places:
        return None
    place = places[int(where * len(places))]
    one, other = text[place], text[place + 1]
    return text[:place] + _cased(other, one) + _cased(one, other) + text[place + 2 :]


def misheard(text: str, where: float, _: float) -> str | None:
    """Another spelling of the same sound."""
    lower = text.lower()
    found = [(sound, other) for sound, other in _SOUNDS if sound in lower][:_MOST_SOUNDS]
    if not found or len(lower) != len(text):
        return None
    sound, other = found[int(where * len(found))]
    place = lower.index(sound)
    return text[:place] + _cased(other, text[place]) + text[place + len(sound) :]


def nicknamed(text: str, _: float, __: float) -> str | None:
    """What friends say."""
    return NICKNAMES.get(text)


def abbreviated(text: str, _: float, __: float) -> str | None:
    """A street as on an envelope."""
    return SHORT_STREETS.get(text)


def misdialled(text: str, where: float, which: float) -> str | None:
    """Another digit in the place of one."""
    places = [place for place, letter in enumerate(text) if letter.isdecimal()]
    if not places:
        return None
    place = places[int(where * len(places))]
    return text[:place] + str((int(text[place]) + 1 + int(which * 9)) % 10) + text[place + 1 :]


def day_for_month(text: str, _: float, __: float) -> str | None:
    """YYYY-MM-DD with day and month exchanged, where that is a date and another one."""
    year, month, day = text.split("-")
    return f"{year}-{day}-{month}" if int(day) <= 12 and day != month else None


def of_no_one(_: str, __: float, ___: float) -> str | None:
    """The date that a form offers."""
    return "1900-01-01"


def missing(_: str, __: float, ___: float) -> str | None:
    """Nothing typed."""
    return ""


def _cased(letters: str, like: str) -> str:
    return letters[:1].upper() + letters[1:] if like.isupper() else letters.lower()

"""The groups of settings that are about people: what may be done with whose data, and who may read it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NAME_PATTERN = re.compile(r"^[a-z][a-z0-9_]{0,49}$")


class Strict(BaseModel):
    """A group of settings: unknown names are refused, and what is read stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Absence = Literal["granted", "denied"]
# What every project knows; one's own come beside them.
CONSENT_SCOPES = ("analytics", "personalisation", "advertising", "email", "sms", "profiling")
ANYWHERE = "default"


class ConsentSettings(Strict):
    """What may be done with whose data, where nobody said (docs/consent.md)."""

    scopes: list[str] = Field(default_factory=list, description="scopes of one's own, beside analytics, personalisation, advertising, email, sms, profiling")
    when_absent: Absence | dict[str, Absence | dict[str, Absence]] = Field(
        "granted", description="what it means that a person said nothing of a scope: granted or denied; or so by scope, or by scope and jurisdiction"
    )
    least_group: int = Field(10, ge=2, description="a row of an aggregated table (marts.agg_*) is of at least so many persons")
    jurisdictions: dict[str, list[str]] = Field(
        default_factory=dict, description="jurisdiction: the countries (as the column country has them) that are its; none where only acts of consent tell it"
    )

    @model_validator(mode="after")
    def _known_names(self) -> ConsentSettings:
        for name in self.scopes:
            if not NAME_PATTERN.match(name):
                raise ValueError(f"'{name}' is not a scope: lower-case letters, digits and _ only")
        known = self.all_scopes
        rules = self.when_absent if isinstance(self.when_absent, dict) else {}
        if unknown := sorted(set(rules) - set(known)):
            raise ValueError(f"when_absent.{unknown[0]} is no scope; known: {', '.join(known)}; others go under scopes")
        countries = [country for listed in self.jurisdictions.values() for country in listed]
        if doubled := sorted({country for country in countries if countries.count(country) > 1}):
            raise ValueError(f"in two jurisdictions: {', '.join(doubled)}")
        if ANYWHERE in self.jurisdictions:
            raise ValueError(f"'{ANYWHERE}' stands for all other jurisdictions; give this one another name")
        names = [place.strip().lower() for place in self.jurisdictions]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two jurisdictions are called '{doubled[0]}': their names must differ by more than case and blanks")
        for scope, rule in rules.items():
            if isinstance(rule, dict) and (strange := sorted(set(rule) - {ANYWHERE, *self.jurisdictions})):
                declared = ", ".join([*sorted(self.jurisdictions), ANYWHERE])
                raise ValueError(
                    f"when_absent.{scope} names '{strange[0]}', which jurisdictions does not declare (known: {declared}); "
                    f"if it is meant, declare it there, with the countries that are its, or none: jurisdictions: {{{strange[0]}: []}}"
                )
        return self

    @property
    def all_scopes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*CONSENT_SCOPES, *self.scopes)))

    def denials(self) -> dict[str, dict[str, bool]]:
        """By scope, for scopes that absence denies somewhere: jurisdiction -> is denied; `default` for all others, and for persons of none."""
        found = {}
        for scope in self.all_scopes:
            rule = self.when_absent.get(scope, "granted") if isinstance(self.when_absent, dict) else self.when_absent
            by_place = {ANYWHERE: "granted", **rule} if isinstance(rule, dict) else {ANYWHERE: rule}
            if "denied" in by_place.values():
                found[scope] = {place: answer == "denied" for place, answer in sorted(by_place.items())}
        return found

    @property
    def elsewhere_tells(self) -> bool:
        """Whether it matters that somebody was seen in a country of no jurisdiction: a scope that is denied there is granted in some jurisdiction."""
        return any(answers[ANYWHERE] and not all(answers.values()) for answers in self.denials().values())

    def telling_places(self) -> dict[str, str]:
        """The jurisdiction of each country, `default` standing for all others where they tell; empty where absence means the same everywhere."""
        if not any(len(set(answers.values())) > 1 for answers in self.denials().values()):
            return {}
        elsewhere = {ANYWHERE: ANYWHERE} if self.elsewhere_tells else {}
        return {country: place for place, countries in self.jurisdictions.items() for country in countries} | elsewhere


class AccessSettings(Strict):
    """Who may read what is published (docs/access.md). No full refresh: they bind the next publication."""

    roles: list[Literal["analyst", "marketer", "engineer", "auditor", "service"]] = Field(
        default_factory=list, description="roles that get a published file of their own; the whole snapshot is then for the home's owner alone",
    )  # fmt: skip
    groups: dict[str, str] = Field(default_factory=dict, description="by role: the system's group that its file belongs to; none: the owner's")
    file_mode: Literal["0400", "0440", "0444"] = Field("0440", description="permissions of the roles' files: owner; owner and group; everybody")
    refuse_unlogged: bool = Field(False, description="true refuses a read by `waymark sql` and the like where the audit log cannot be written")

    @model_validator(mode="after")
    def _groups_of_roles(self) -> AccessSettings:
        if strangers := sorted(set(self.groups) - set(self.roles)):
            raise ValueError(f"groups names {', '.join(strangers)}, which roles does not")
        return self

    @property
    def as_published(self) -> dict[str, object]:
        """What a publication depends on: empty where no role has a file."""
        return {"roles": sorted(self.roles), "groups": self.groups, "file_mode": self.file_mode} if self.roles else {}

"""From raw values to canonical events: SELECTs built from the mapping.

`parsed_sql` reads records and says of each the first rule that it breaks; `suspects_sql` says which columns may hold what must be redacted; `events_sql`
makes events of the records that break no rule.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf

from waymark.core.quoting import literal, name
from waymark.core.settings import Settings
from waymark.ingestion.agents import agents_sql, device_sql
from waymark.ingestion.consent import ACT_FIELDS, ACT_TEXTS, act_sql, ours_sql, scopes_sql, shown_sql, told_act_sql
from waymark.ingestion.event import CANONICAL_COLUMNS, CLICK_IDS, CONTENT_COLUMNS, UTM_COLUMNS
from waymark.ingestion.extraction import KIND, RECORD, Extraction, Extractor, Shape, removal_patch
from waymark.ingestion.mapping import ID_COLUMN, Mapping, Rule
from waymark.ingestion.moments import amount_sql, timestamp_sql
from waymark.privacy import (
    identifier_hash_sql,
    may_be_personal_sql,
    may_hold_email_sql,
    normalised_sql,
    protected_id_sql,
    redact_accounts_sql,
    redact_emails_sql,
    redact_name_sql,
    redact_phones_sql,
)
from waymark.privacy.comparables import COMPARABLES, compared_sql, shows_in_text

_PLAIN = (
    "anonymous_id", "user_id", "source_channel", *UTM_COLUMNS, "click_id_type", "click_id", "referrer", "page_url", "screen",
    "user_agent", "device_type", "os", "browser", "country", "region", "city", "language", "order_id", "properties", "text",
)  # fmt: skip
_NAMES = (
    "event_type_raw",
    "source_channel",
    *UTM_COLUMNS,
    "click_id_type",
    "click_id",
    "screen",
    "device_type",
    "os",
    "browser",
    "country",
    "region",
    "city",
    "language",
)
_TEXTS = ("page_url", "referrer", "properties", "text")
_TAGS = "tags"  # a suspect that is no column: what a URL's campaign tags say once they are decoded
_MARK_FROM = 5  # shorter raw identifiers are not looked for in URLs and texts: they would match by accident


class Canonical:
    """The SQL of one mapping for one shape of file."""

    def __init__(self, mapping: Mapping, shape: Shape, settings: Settings, file: str, absent: frozenset[str] = frozenset()) -> None:
        """absent: expressions that `check_expressions` found to have no columns in files of this shape."""
        self.mapping, self.shape, self.settings = mapping, shape, settings
        self.extraction: Extraction = Extractor(mapping, shape, file, absent).build()

    def _raw(self, key: str) -> str:
        value = self.extraction.values.get(key)
        return f"nullif(trim({value}), '')" if value is not None else "cast(NULL as varchar)"

    def parsed_sql(self, records: str) -> str:
        """One row per record that could be read: `_wm_row`, raw and typed values, `broken` = 'rule|field' or NULL."""
        mapping = self.mapping
        prepared = f"{records} where _wm_rule is null"
        for step in filter(None, self.extraction.steps):
            prepared = "(select *" + "".join(f",\n  {piece}" for piece in step) + f" from {prepared})"
        wanted = [
            "_wm_file",
            "_wm_row",
            f"{self._raw('event_type')} as event_type_raw",
            f"{self._raw('occurred_at')} as t_occurred",
            f"{self._raw('received_at')} as t_received",
        ]
        wanted += [f"{self._raw(ID_COLUMN)} as t_event_id", f"{self._raw('value')} as t_value", f"{self._raw('currency')} as t_currency"]
        wanted += [f"{self._raw(column)} as {name(column)}" for column in _PLAIN]
        wanted += [f"{self._raw(key)} as {name(key)}" for key in self._personal()]
        wanted += [
            f"{self._raw('consent')} as t_consent",
            f"{self._raw('is_internal')} as t_internal",
            f"{self._raw('session_key')} as t_session",
            f"{self._unreadable()} as unreadable",
        ]
        acts = ""
        if mapping.consent and mapping.consent.events:
            wanted += [f"{self._raw(f'act:{field}')} as t_act_{field}" for field in ACT_FIELDS]
            acts = f"{told_act_sql(mapping.consent, self._event_type())} as t_act, {timestamp_sql('t_act_expires_at', mapping.time_zone)} as act_expires_at, "
        extracted = f"select {', '.join(wanted)} from {prepared}"
        typed = f"""
            select *, {acts}{timestamp_sql("t_occurred", mapping.time_zone)} as occurred_at, {timestamp_sql("t_received", mapping.time_zone)} as received_at,
              {amount_sql("t_value")} as value, coalesce(upper(t_currency), {literal(mapping.currency) if mapping.currency else "NULL"}) as currency
            from ({extracted})"""
        return f"select *, {self._broken()} as broken from ({typed})"

    def named_sql(self, parsed: str) -> str:
        """Whom the parsed rows name, those included that break a rule: _wm_file, _wm_row, is_broken; occurred_at, identifiers, order_id as events have them.

        Execute it with the secret's parameters, if it holds any.
        """
        shielded = ", ".join(f"{self._protected(column, column)} as {column}" for column in ("anonymous_id", "user_id", "order_id"))
        named = f"select _wm_file, _wm_row, occurred_at, broken is not null as is_broken, {shielded}, {self._others()} as others from {parsed}"
        kind = CANONICAL_COLUMNS["identifiers"]
        return f"select _wm_file, _wm_row, occurred_at, is_broken, cast({self._identifiers()} as {kind}) as identifiers, order_id from ({named})"

    def _personal(self) -> dict[str, Rule]:
        """Raw values that go no further than the door: identifiers and parts that are compared, by their keys in the extraction."""
        parts = {f"part:{part}": compared.rule for part, compared in self.mapping.compare.items()}
        return {f"id:{kind}": rule for kind, rule in sorted(self.mapping.identifiers.items())} | parts

    def _sought(self) -> list[str]:
        """Those of them that are looked for wherever else they may stand in the row."""
        return [key for key in self._personal() if key.startswith("id:") or shows_in_text(self.mapping.compare[key.removeprefix("part:")].kind)]

    def _unreadable(self) -> str:
        """What can only be said with the file's own columns at hand."""
        limit = self.settings.ingestion.max_field_bytes
        cases = []
        if self.shape.is_json:
            cases += [f"when strlen({RECORD}) > {limit} then 'field_too_large|{RECORD}'"]
            cases += [f"when contains({RECORD}, '\\u0000') then 'nul_byte|'"]
            cases += [f"when {KIND} is distinct from 'OBJECT' then 'malformed_row|'"]
        else:
            cases += [f"when strlen({name(column)}) > {limit} then {literal('field_too_large|' + column)}" for column in self.shape.columns]
        cases += [f"when {condition} then {literal('bad_value|' + column)}" for condition, column in self.extraction.failures]
        cases += [f"when {condition} then {literal('bad_properties|' + column)}" for condition, column in self.extraction.bad_json]
        return f"case {' '.join(cases)} end" if cases else "cast(NULL as varchar)"

    def _broken(self) -> str:
        mapping = self.mapping
        cases = [
            "when unreadable is not null then unreadable",
            "when t_occurred is null then 'missing_occurred_at|occurred_at'",
            "when occurred_at is null then 'bad_occurred_at|occurred_at'",
            "when occurred_at < timestamp '1990-01-01' then 'before_1990|occurred_at'",
            "when event_type_raw is null or not regexp_matches(event_type_raw, '[\\p{L}\\p{N}]') then 'missing_event_type|event_type'",
        ]
        if mapping.quarantine_unknown_events:
            known = ", ".join(literal(event) for event in mapping.events) or "NULL"
            cases.append(f"when event_type_raw not in ({known}) then 'unknown_event_type|event_type'")
        if ID_COLUMN in mapping.columns and not mapping.columns[ID_COLUMN].optional:
            cases.append("when t_event_id is null then 'missing_event_id|event_id'")
        cases += [
            "when t_value is not null and value is null then 'bad_value|value'",
            "when t_received is not null and (received_at is null or received_at < timestamp '1990-01-01') then 'bad_value|received_at'",
            "when currency is not null and not regexp_full_match(currency, '[A-Z]{3}') then 'bad_currency|currency'",
            "when value is not null and currency is null then 'value_without_currency|currency'",
        ]
        if self.extraction.values.get("properties") not in [name(column) for _, column in self.extraction.bad_json]:  # else it was parsed already
            cases.append("when properties is not null and not json_valid(properties) then 'bad_properties|properties'")
        if mapping.consent and mapping.consent.events:
            cases.append("when t_act is not null and len(t_act.granted) + len(t_act.withdrawn) + len(t_act.expired) = 0 then 'bad_consent|consent'")
            unnamed = ["anonymous_id is null", "user_id is null", *(f"not coalesce({self._is_usable(kind)}, false)" for kind in self.mapping.identifiers)]
            cases.append(f"when t_act is not null and {' and '.join(unnamed)} then 'bad_consent|identifiers'")
            cases.append("when t_act is not null and t_act_expires_at is not null and act_expires_at is null then 'bad_value|expires_at'")
        if mapping.is_internal:
            cases.append("when t_internal is not null and try_cast(t_internal as boolean) is null then 'bad_value|is_internal'")
        return f"case {' '.join(cases)} end"

    def suspects_sql(self, parsed: str) -> str:
        """One row that says by column whether any of the parsed rows holds what `events_sql` has to redact in it.

        Few columns do, and a pattern that stands in a statement costs time to prepare, however few its rows are.
        """
        acts = [f"t_act_{field}" for field in ACT_TEXTS] if self.mapping.consent and self.mapping.consent.events else []
        asked = {column: may_be_personal_sql(name(column)) for column in ("event_type_raw", *filter(self._is_mapped, _NAMES), *acts)}
        asked |= {column: may_hold_email_sql(column) for column in filter(self._is_mapped, _TEXTS)}
        if self._is_mapped("page_url"):  # a tag without signs of an encoding is a piece of the URL, which was redacted
            asked[_TAGS] = "coalesce(contains(page_url, 'utm_') and regexp_matches(page_url, '[%+]'), false)"
        sums = [f"coalesce(bool_or({condition}), false) as {name(column)}" for column, condition in asked.items()]
        if self._is_mapped("user_agent"):
            agents = f"select distinct user_agent from {parsed}"
            sums.append(f"(select coalesce(bool_or({may_be_personal_sql('user_agent')}), false) from ({agents})) as user_agent")
        return f"select {', '.join(sums)} from {parsed}"

    def events_sql(self, parsed: str, suspects: frozenset[str]) -> str:
        """Events of the parsed rows that break no rule; columns as in CANONICAL_COLUMNS, with event_key and content_key.

        suspects: what `suspects_sql` found in these rows. Execute it with the secret's parameters.
        """

        def named(column: str) -> str:
            return redact_name_sql(name(column)) if column in suspects else name(column)

        told, columns = [], []
        if self._is_mapped("user_agent"):
            told.append(f"left join ({agents_sql(parsed, named('user_agent'))}) on raw_agent = user_agent")
            columns = ["shown_agent as user_agent", "agent_device", "agent_os", "agent_browser"]
        else:
            columns = [f"cast(NULL as varchar) as {column}" for column in ("user_agent", "agent_device", "agent_os", "agent_browser")]
        if self.mapping.consent and self.mapping.consent.scopes is not None:
            distinct = f"select distinct t_consent as raw_consent from {parsed} where t_consent is not null"
            scopes = f"select raw_consent, {scopes_sql('raw_consent', self.mapping.consent.separator)} as told from ({distinct})"
            shown = f"select raw_consent, {shown_sql('told')} as told_scopes, {ours_sql('told', self.mapping.consent)} as told_granted from ({scopes})"
            told.append(f"left join ({shown}) on raw_consent = t_consent")
            columns += ["told_scopes", "told_granted"]
        for part, compared in self.mapping.compare.items():
            key, raw = name(f"part:{part}"), name(f"raw:{part}")
            distinct = f"(select distinct {key} as {raw} from {parsed} where {key} is not null)"
            told.append(f"left join (select {raw}, told as {name('told:' + part)} from ({compared_sql(distinct, raw, part, compared.kind)})) on {raw} = {key}")
            columns.append(name(f"told:{part}"))
        good = f"""
            select p.* exclude (user_agent), {", ".join(columns)}, coalesce(received_at, occurred_at) as received
            from {parsed} p {" ".join(told)} where broken is null"""
        shielded = f"""
            select _wm_file, _wm_row, occurred_at, received as received_at, value,
              case when value is not null or t_currency is not null then currency end as currency,
              {", ".join(f"{named(column)} as {name(column)}" for column in _NAMES)}, user_agent, agent_device, agent_os, agent_browser,
              {", ".join(f"{self._protected(column, column)} as {column}" for column in ("anonymous_id", "user_id", "order_id"))},
              {protected_id_sql("t_session")} as t_session, {self._protected("t_event_id", ID_COLUMN)} as source_event_id,
              {self._without_identifiers("page_url")} as page_url, {self._without_identifiers("referrer")} as referrer,
              {self._without_identifiers("text")} as text, {self._properties()} as properties, {self._others()} as others,
              {self._consent()} as consent_scopes, {act_sql(self.mapping.consent, named)} as consent_act,
              {"coalesce(try_cast(t_internal as boolean), false)" if self.mapping.is_internal else "false"} as is_internal,
                {self._comparables()} as comparables
            from ({good})"""
        texts = [column for column in _TEXTS if self._is_mapped(column)]
        emails = {column: redact_emails_sql(column) for column in texts if column in suspects}
        phones = {column: redact_phones_sql(column, free_text=column == "text") for column in texts}
        shown = _replacing(phones, _replacing(emails, shielded))
        if texts:  # all of them in one expression, which is then prepared once
            listed = f"select *, {redact_accounts_sql(texts)} as shown_texts from ({shown})"
            shown = _replacing({column: f"shown_texts[{place}]" for place, column in enumerate(texts, start=1)}, listed)
        located = f"""
            select *, {_usual_address("page_url")} as page, {_usual_address("referrer")} as origin, contains(page_url, 'utm_') as has_campaign,
              {_click_pair(self.mapping)} as click
            from ({shown})"""
        addressed = f"""
            select * replace (
                case when page.host <> '' then page else {_address("page_url")} end as page,
                case when origin.host <> '' then origin else {_address("referrer")} end as origin
              )
            from ({located})"""
        derived = f"""
            select _wm_file, _wm_row, {literal(self.mapping.source)} as source, source_event_id, {self._event_type()} as event_type, occurred_at, received_at,
              {self._session_key()} as session_key, anonymous_id, user_id, {self._identifiers()} as identifiers, source_channel,
              {", ".join(f"{self._campaign(column)} as {column}" for column in UTM_COLUMNS)},
              {"click_id_type, click_id" if self._is_mapped("click_id") else "click.kind as click_id_type, click.id as click_id"},
              referrer, nullif(lower(origin.host), '') as referrer_host, page_url, nullif(lower(page.host), '') as page_host,
              case when page_url is not null then coalesce(nullif(page.path, ''), '/') end as page_path, screen, user_agent,
              {device_sql(is_mapped=self._is_mapped("device_type"))} as device_type, coalesce(lower(os), agent_os) as os,
              coalesce(lower(browser), agent_browser) as browser,
              country, region, city, language, order_id, value, currency, properties, text, consent_scopes, consent_act, is_internal, comparables
            from ({addressed})"""
        # What a URL's tags say was encoded when the URL was looked at.
        decoded = _replacing({column: redact_name_sql(column) for column in UTM_COLUMNS} if _TAGS in suspects else {}, derived)
        digested = f"select *, md5({_content(self.mapping)}) as content_digest from ({decoded})"
        keyed = f"select *, {self._identity()} as id_text from ({digested})"
        return f"""
            select md5(id_text) as event_id, * exclude (_wm_file, _wm_row, id_text), _wm_file as ingest_file_id, _wm_row as row_number,
              cast(occurred_at as date) as event_date, md5_number(id_text) as event_key, md5_number_upper(content_digest) as content_key
            from ({keyed})"""

    def _is_mapped(self, column: str) -> bool:
        return column in self.mapping.columns

    def _protected(self, column: str, mapped: str) -> str:
        return protected_id_sql(column) if self._is_mapped(mapped) else column

    def _identity(self) -> str:
        source = literal(self.mapping.source)
        ordinal = "'0'"
        if self.mapping.keep_identical_rows:
            ordinal = "cast(row_number() over (partition by _wm_file, content_digest order by _wm_row nulls last) - 1 as varchar)"
        from_content = f"{source} || chr(31) || content_digest || chr(31) || {ordinal}"
        return (
            f"case when source_event_id is not null then {source} || chr(31) || source_event_id else {from_content} end"
            if self._is_mapped(ID_COLUMN)
            else from_content
        )

    def _event_type(self) -> str:
        snake = "trim(regexp_replace(lower(regexp_replace(event_type_raw, '([\\p{Ll}\\p{N}])(\\p{Lu})', '\\1_\\2', 'g')), '[^\\p{L}\\p{N}]+', '_', 'g'), '_')"
        snake = f"case when regexp_full_match(event_type_raw, '[a-z0-9]+(_[a-z0-9]+)*') then event_type_raw else {snake} end"
        if not self.mapping.events:
            return snake
        cases = " ".join(f"when {literal(event)} then {literal(ours)}" for event, ours in self.mapping.events.items())
        return f"case event_type_raw {cases} else {snake} end"

    def _session_key(self) -> str:
        key = self.mapping.session_key
        if isinstance(key, Rule):
            return f"{literal(self.mapping.namespace('session_key') + ':')} || t_session"
        return "cast(NULL as varchar)" if key == "none" else f"{literal(self.mapping.namespace(key) + ':')} || {key}"

    def _identifiers(self) -> str:
        both = ", ".join(
            f"{{'type': {literal(kind)}, 'value': {literal(self.mapping.namespace(kind) + ':')} || {kind}}}" for kind in ("anonymous_id", "user_id")
        )
        own = f"[{both}][case when anonymous_id is null then 2 else 1 end : case when user_id is null then 1 else 2 end]"
        some = "anonymous_id is not null or user_id is not null"
        if not self.mapping.identifiers:
            return f"case when {some} then {own} end"
        return f"case when len(others) > 0 then list_concat({own}, others) when {some} then {own} end"

    def _others(self) -> str:
        """A list of the hashed identifiers; NULL, or empty, where there are none."""
        if not self.mapping.identifiers:
            return "NULL"
        parts = []
        for kind in sorted(self.mapping.identifiers):
            made = f"{{'type': {literal(kind)}, 'value': {identifier_hash_sql(kind, name(f'id:{kind}'))}}}"
            parts.append(f"case when {self._is_usable(kind)} then {made} end")
        there = " or ".join(f"{name(f'id:{kind}')} is not null" for kind in sorted(self.mapping.identifiers))
        return f"case when {there} then list_filter([{', '.join(parts)}], lambda x: x is not null) end"

    def _is_usable(self, kind: str) -> str:
        """Whether the raw value names somebody. A phone of fewer than five digits is none; it would link strangers."""
        raw = name(f"id:{kind}")
        return f"{raw} is not null and {normalised_sql(kind, raw)} is not null" + (f" and strlen({normalised_sql(kind, raw)}) > 5" if kind == "phone" else "")

    def _comparables(self) -> str:
        """A list of the parts' hashes; NULL where there are none."""
        told = ", ".join(name(f"told:{part}") for part in self.mapping.compare)
        found = f"list_filter([{told}], lambda x: x is not null)"
        return f"case when len({found}) > 0 then {found} end" if told else f"cast(NULL as {COMPARABLES})"

    def _without_identifiers(self, column: str) -> str:
        """The column with raw values of mapped identifiers and compared parts replaced, as they are and percent-encoded."""
        shown = column
        for key in self._sought():
            raw = name(key)
            mark = literal(f"[{key.partition(':')[2]}]")
            replaced = f"replace(replace({shown}, {raw}, {mark}), url_encode({raw}), {mark})"
            shown = f"case when {raw} is not null and length({raw}) >= {_MARK_FROM} then {replaced} else {shown} end"
        return shown

    def _properties(self) -> str:
        rule = self.mapping.columns.get("properties")
        shown = "properties"
        if rule is None:
            return shown
        for key, personal in self._personal().items():
            raw = name(key)
            if patch := removal_patch(personal, rule):
                patched = f"cast(json_merge_patch({shown}, {literal(patch)}) as varchar)"
                shown = f"case when {raw} is not null and json_type(properties) = 'OBJECT' then {patched} else {shown} end"
        for key in self._sought():
            raw, kind = name(key), key.partition(":")[2]
            is_long = f"{raw} is not null and length({raw}) > {_MARK_FROM}"
            # A bare number may stand outside quotes in JSON, where a mark would break it: it is replaced as a whole value, with quotes or without.
            is_number = f"regexp_full_match({raw}, '[0-9]+')"
            whole = f"regexp_replace({shown}, '([:,\\[]\\s*)\"?' || {raw} || '\"?(\\s*[,}}\\]])', '\\1\"[{kind}]\"\\2', 'g')"
            replaced = f"case when {is_number} then {whole} else replace({shown}, {raw}, {literal(f'[{kind}]')}) end"
            shown = f"case when {is_long} and contains({shown}, {raw}) then {replaced} else {shown} end"
        return shown

    def _consent(self) -> str:
        consent = self.mapping.consent
        if consent is None or consent.scopes is None:
            return "cast(NULL as varchar[])"
        absent = "[" + ", ".join(literal(scope) for scope in consent.granted_when_absent) + "]::varchar[]"
        return f"case when t_consent is null then {absent} else told_scopes end"

    def _campaign(self, column: str) -> str:
        from_url = f"case when has_campaign and contains(page_url, '{column}=') then {_query_value(column)} end"
        return f"coalesce({column}, {from_url})" if self._is_mapped(column) else from_url


def _replacing(made: MappingOf[str, str], select: str) -> str:
    """A SELECT of all that another gives, in which these columns are made anew."""
    return f"select * replace ({', '.join(f'{sql} as {column}' for column, sql in made.items())}) from ({select})" if made else select


def _query_value(parameter: str) -> str:
    raw = f"regexp_extract(page_url, '[?&]{parameter}=([^&#]*)', 1)"
    return f"nullif(replace(coalesce(try(url_decode(replace({raw}, '+', ' '))), {raw}), chr(0), ''), '')"


def _click_pair(mapping: Mapping) -> str:
    if "click_id" in mapping.columns:
        return "NULL"
    tries = [
        f"when contains(page_url, '{kind}=') and regexp_matches(page_url, '[?&]{kind}=[^&#]')"
        f" then {{'kind': '{kind}', 'id': regexp_extract(page_url, '[?&]{kind}=([^&#]*)', 1)}}"
        for kind in CLICK_IDS
    ]
    signs = " or ".join(f"contains(page_url, '{sign}=')" for sign in ("clid", "cid", "braid", "clickid", "li_fat_id", "epik"))
    return f"case when page_url is null or not ({signs}) then NULL {' '.join(tries)} end"


def _usual_address(column: str) -> str:
    """Host and path of a plain web address; both empty for any other text. RE2 reads it in one pass, which `_address` needs ten times as long for."""
    return f"regexp_extract({column}, '^https?://([A-Za-z0-9.-]+)(?::[0-9]*)?(/[^?#]*)?(?:[?#](?s:.)*)?$', ['host', 'path'])"


def _address(column: str) -> str:
    return f"regexp_extract({column}, '^(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://(?:[^/?#@]*@)?([^/?#:]*)(?::[0-9]*)?)?([^?#]*)', ['host', 'path'])"


def _content(mapping: Mapping) -> str:
    texts = {column: f"cast({column} as varchar)" for column in CONTENT_COLUMNS if CANONICAL_COLUMNS[column] != "VARCHAR"}
    texts |= {column: f"cast(epoch_us({column}) as varchar)" for column in ("occurred_at", "received_at")}
    # concat() takes NULL for '', which no column holds; it builds the text once, where || would copy it forty times.
    parts = ", chr(31), ".join(texts.get(column, column) for column in CONTENT_COLUMNS)
    if mapping.compare:
        parts += ", chr(31), cast(comparables as varchar)"
    if mapping.consent and mapping.consent.events:
        parts += ", case when not consent_act.is_statement then chr(31) || cast(consent_act as varchar) end"
    return f"concat({parts})"

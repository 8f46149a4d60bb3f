"""Privacy at the door: the secret, keyed hashes of identifiers, redaction of texts."""

from waymark.privacy.accounts import redact_accounts_sql
from waymark.privacy.hashing import hmac_sql, identifier_hash_sql, identifier_message, normalised, normalised_sql, protected_id_sql
from waymark.privacy.redaction import (
    may_be_personal_sql,
    may_hold_email_sql,
    redact_emails_sql,
    redact_name_sql,
    redact_phones_sql,
    redact_text,
)
from waymark.privacy.secret import DEMO_SOURCE, FINGERPRINT_FILE, PUBLIC_DEMO_SECRET, KnownSecret, Secret, find_secret, load_secret

__all__ = [
    "DEMO_SOURCE",
    "FINGERPRINT_FILE",
    "PUBLIC_DEMO_SECRET",
    "KnownSecret",
    "Secret",
    "find_secret",
    "hmac_sql",
    "identifier_hash_sql",
    "identifier_message",
    "load_secret",
    "may_be_personal_sql",
    "may_hold_email_sql",
    "normalised",
    "normalised_sql",
    "protected_id_sql",
    "redact_accounts_sql",
    "redact_emails_sql",
    "redact_name_sql",
    "redact_phones_sql",
    "redact_text",
]

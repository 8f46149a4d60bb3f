"""`node_customer_id`: the id that a customer has while this node is the earliest of its cluster."""

from __future__ import annotations

from waymark.core.errors import SecretError

BLOCK_BYTES = 64
HEX_DIGITS = 24


def node_customer_id_sql(identifier_type: str, identifier_value: str) -> str:
    """SQL for `c_` + the first 24 hex digits of HMAC-SHA-256(secret, type || '|' || value) (RFC 2104).

    Takes SQL expressions of the two texts. The query needs the parameters of `pad_parameters`: the secret never stands in SQL text.
    """
    message = f"encode({identifier_type} || '|' || {identifier_value})"
    return f"'c_' || left(sha256($opad::BLOB || unhex(sha256($ipad::BLOB || {message}))), {HEX_DIGITS})"


def pad_parameters(customer_id_pads: tuple[bytes, bytes]) -> dict[str, object]:
    """The bound parameters of `node_customer_id_sql`, from the (inner, outer) padded key blocks. Raises SecretError unless each is a block."""
    inner, outer = customer_id_pads
    if len(inner) != BLOCK_BYTES or len(outer) != BLOCK_BYTES:
        raise SecretError(f"customer ids need two key blocks of {BLOCK_BYTES} bytes", remedy="Pass the pads of waymark.privacy, not the secret itself.")
    return {"ipad": inner, "opad": outer}

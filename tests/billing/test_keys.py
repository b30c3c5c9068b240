import re
from hashlib import sha256
from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from billing.keys import NAMESPACE, attempt_id, event_id, idempotency_key, invoice_id

INSTALLATION = UUID("11111111-2222-3333-4444-555555555555")
ids = st.text("ab:%/", min_size=1, max_size=8)


def test_an_invoice_id_is_derived() -> None:
    """The id of a renewal's invoice is the uuid5 of subscription, kind and period."""
    assert invoice_id("sub_1", "renewal", 7) == uuid5(NAMESPACE, "sub_1:renewal:7")


def test_identities_never_change() -> None:
    """Written down once: other values would charge everybody again."""
    invoice = invoice_id("sub_1", "renewal", 0)
    assert str(invoice) == "727f62b4-0d9c-556e-b560-9e280166f7c9"
    assert str(attempt_id(invoice, 1)) == "10f91da1-2cbc-5b75-a6be-1209c7a37ab7"
    assert str(event_id("sub_1", 1)) == "b011dea3-9e23-5401-b32c-e8a813cb1f86"


def test_an_idempotency_key_is_derived() -> None:
    """The key names the installation in clear and hides the rest, within 255 characters."""
    invoice = invoice_id("sub_1", "renewal", 0)
    key = idempotency_key(INSTALLATION, invoice, 2)
    assert key == f"b1:{INSTALLATION}:{sha256(f'{invoice}:2'.encode()).hexdigest()}"
    assert re.fullmatch(r"b1:[0-9a-f-]{36}:[0-9a-f]{64}", key)
    assert len(key) == 104


def test_every_ordinal_has_its_own_key() -> None:
    """A new ordinal is a new charge; another installation is another sender."""
    invoice = invoice_id("sub_1", "renewal", 0)
    keys = {idempotency_key(INSTALLATION, invoice, ordinal) for ordinal in range(1, 50)}
    keys.add(idempotency_key(UUID(int=1), invoice, 1))
    assert len(keys) == 50


triples = st.tuples(ids, st.just("renewal"), st.integers(0, 3)) | st.tuples(
    ids, st.just("one_off"), ids
)


@given(triples, triples)
def test_no_choice_of_ids_makes_two_invoices_meet(
    one: tuple[str, str, int | str], other: tuple[str, str, int | str]
) -> None:
    """Platform ids may hold colons; different triples still have different invoices."""
    assert (invoice_id(*one) == invoice_id(*other)) == (one == other)


def test_a_crafted_event_id_does_not_hit_a_renewal() -> None:
    """An event named like the tail of another subscription's renewal makes an invoice of its own."""
    assert invoice_id("a", "one_off", "b:renewal:2") != invoice_id("a:one_off:b", "renewal", 2)

"""The fields that a log line may have: ids, names of ours, numbers and codes; nothing people typed.

Never here: names, mail addresses, tokens, card digits, keys, bodies of requests or messages.
"""

_SUBJECTS = """
subscription_id invoice_id attempt_id customer_id seller_id plan_id payment_method_id notice_id
event_id message_id refund_id installation_id row subject
"""
_PLACES = """
actor adapter consumer currency exchange gateway host invariant job kind listener locale name path
port process queue scope scope_id server sweep table thread topic type url version
"""
_OUTCOMES = """
advice_code class code decline_class decline_code error exit_code expected field found network_code
outcome reason result signal state status what why who
"""
_COUNTS = """
acked applied approved asked attempts available canceled changed claimed count declined depth
doorbells dropped due duplicates expired failed finished given_back ids left lines ordinal
outstanding parked pending published received recovered rejected released resolved rows sent
sequence settled size
skipped slot slots superseded sweeps there threads tries unknown unsettled waiting waited
"""
_TIMES = """
at due_at lag_seconds lookup_seconds milliseconds next_at now period_end period_start resting_until
retry_at seconds skew_seconds started_at until wait_seconds
"""

ALLOWED_FIELDS = frozenset(f"{_SUBJECTS} {_PLACES} {_OUTCOMES} {_COUNTS} {_TIMES}".split())
"""Names in use by at least one line; `tests/worker/test_logs.py` compares them with the code."""

"""The row of error_kinds that a failed call belongs to."""

#: (fingerprint, tool_name, error_category, message, session_uuid, first seen, last seen). The message is that of whoever
#: first stored one, with the session that it is of; only the times change after that.
ERROR_KIND = """
INSERT INTO error_kinds (fingerprint, tool_name, error_category, message, session_uuid, first_seen, last_seen)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (fingerprint) DO UPDATE SET
    first_seen = min(first_seen, excluded.first_seen), last_seen = max(last_seen, excluded.last_seen),
    session_uuid = iif(message IS NULL AND excluded.message IS NOT NULL, excluded.session_uuid, session_uuid),
    message = coalesce(message, excluded.message)
"""

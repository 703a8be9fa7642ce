"""A key extractor for entries that are JSON objects."""

import json

from cometlog.forward.shipments import KeyExtractor


def json_key(path: str) -> KeyExtractor:
    """Return what gives the value at a path of field names joined by dots, such as ``user.id``.

    Text and numbers are their text, as UTF-8; an entry that is no JSON object, or has no such field, has no key, nor has one that
    Python's parser gives up or whose text is no UTF-8.
    """
    names = path.split(".")

    def key(data: bytes) -> bytes | None:
        try:
            value = json.loads(data)
            for name in names:
                if not isinstance(value, dict) or name not in value:
                    return None
                value = value[name]
            if value is None or isinstance(value, dict | list):
                return None
            return value.encode() if isinstance(value, str) else json.dumps(value).encode()
        except (ValueError, RecursionError):
            return None

    return key

"""Redis locks on customers: a courtesy that spares double work. The row lock decides."""

from redis.client import Pipeline

from schemas.redis_keys import LOCK_SECONDS, lock_key

_TAKE = """
local held = 0
for i = 1, #KEYS do
  if not redis.call('SET', KEYS[i], ARGV[1], 'NX', 'EX', ARGV[2])
     and redis.call('GET', KEYS[i]) ~= ARGV[1] then
    held = held + 1
  end
end
return held
"""

_RELEASE = """
local released = 0
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[1] then released = released + redis.call('DEL', KEYS[i]) end
end
return released
"""


def take_locks(pipeline: Pipeline, customers: list[str], token: str) -> None:
    """Queue the locks of these customers; the answer is how many somebody else holds."""
    keys = [lock_key(customer) for customer in customers]
    pipeline.eval(_TAKE, len(keys), *keys, token, str(LOCK_SECONDS))


def release_locks(pipeline: Pipeline, customers: list[str], token: str) -> None:
    """Queue the release of those locks that still hold this token."""
    keys = [lock_key(customer) for customer in customers]
    pipeline.eval(_RELEASE, len(keys), *keys, token)

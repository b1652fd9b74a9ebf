-- A token bucket. The key holds what is missing from a full one, in parts of a token, and when that was.
-- Missing parts: what the request takes, what the bucket holds, and what comes back in a microsecond.
local takes, holds, comes = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local missing, at = 0, now
local kept = redis.call('GET', KEYS[1])
if kept then
  missing, at = string.match(kept, '^(%d+) (%d+)$')
  if not at then return redis.error_reply('FOREIGN value under the key of a limit') end
  missing, at = tonumber(missing), tonumber(at)
end
-- A clock that was set back gives nothing back, until it has moved on from there.
local is_ahead = at > now
missing = math.max(0, missing - math.max(0, now - at) * comes)
local allowed = must or missing + takes <= holds
if allowed then missing = missing + takes end
if missing > 0 and (allowed or is_ahead) then
  local lasts = math.min(math.ceil(missing / comes / 1000), longest)
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', missing, now), 'PX', string.format('%.0f', lasts))
end
return {allowed and 1 or 0, now, missing}

-- A log. The key holds the time of each unit of weight that is still inside the window.
local weight, most, period = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - period))
local count = redis.call('ZCARD', KEYS[1])
local allowed = count + weight <= most
local blocker, newest = 0, 0
if allowed then
  local score = string.format('%.0f', now)
  for unit = 1, weight do
    redis.call('ZADD', KEYS[1], score, score .. '-' .. count + unit)
  end
  count = count + weight
  if count > 0 then
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(math.ceil(period / 1000), longest)))
  end
elseif weight <= most then
  local place = count + weight - most - 1
  blocker = tonumber(redis.call('ZRANGE', KEYS[1], place, place, 'WITHSCORES')[2])
end
if count > 0 then
  newest = tonumber(redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2])
end
return {allowed and 1 or 0, now, count, newest, blocker}

-- A sliding or a fixed window. The key holds when the window began that was counted in, its count and the count before.
local weight, most, period, slides = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local start, current, previous = now - now % period, 0, 0
local is_ahead = false
local kept = redis.call('GET', KEYS[1])
if kept then
  local counted, its, last = string.match(kept, '^(%d+) (%d+) (%d+)$')
  if not last then return redis.error_reply('FOREIGN value under the key of a limit') end
  counted = tonumber(counted)
  -- What was counted before the clock was set back counts in the window that it shows now.
  is_ahead = counted > start
  if counted >= start then
    current, previous = tonumber(its), tonumber(last)
  elseif slides and counted + period == start then
    previous = tonumber(its)
  end
end
local room = most - weight - current
local allowed = must or (room >= 0 and (start + period - now) * previous <= room * period)
if allowed then current = current + weight end
if allowed or is_ahead then
  local lasts = math.ceil((start + period * (slides and 2 or 1) - now) / 1000)
  local text = string.format('%.0f %.0f %.0f', start, current, previous)
  redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', math.min(lasts, longest)))
end
return {allowed and 1 or 0, now, start, current, previous}

"""The Lua scripts: each is one atomic step in the store, and all keys of one share a hash tag.

They are sent with EVAL each time: 1 KB a call buys that a restarted or replaced server needs no preparation. Small
state writes carry `allow-oom` (Redis 7, Valkey): a store that is full of pairs must still take a rollback.
"""

_ADD_WITHIN = """
-- Add an entry to a stream of packed ones and drop the oldest beyond `keep` bytes. Each knows where it ends in all
-- bytes ever written, so what is held is known from the newest and the oldest.
local function add_within(stream, keep, entry_bytes, packed, revision)
  local function first(range)
    local entry = {}
    if not range[1] then return entry, nil end
    for i = 1, #range[1][2], 2 do entry[range[1][2][i]] = range[1][2][i + 1] end
    return entry, range[1][1]
  end
  local newest = first(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1))
  local written = (tonumber(newest.b) or 0) + #packed + entry_bytes
  redis.call('XADD', stream, '*', 'p', packed, 'r', revision, 'b', string.format('%.0f', written))
  while true do
    local oldest, id = first(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1))
    if not id then return end
    local ends = tonumber(oldest.b)
    if ends and oldest.p and ends <= written and written - (ends - #oldest.p - entry_bytes) <= keep then return end
    redis.call('XDEL', stream, id)
  end
end
"""

COMPARE_AND_SET = f"""#!lua flags=allow-oom
-- KEYS: state, decisions, bases
-- ARGV: expected revision, revision, epoch, body, decision record or '', entries kept, channel, notice,
--       packed basis or '', bytes of bases kept, entry bytes
{_ADD_WITHIN}
local stored = redis.call('HMGET', KEYS[1], 'revision', 'epoch')
-- Missing is 0 (never seen); present yet no number must stay an error, or a damaged state would be overwritten.
local revision = stored[1] and tonumber(stored[1]) or (not stored[1] and 0)
local epoch = stored[2] and tonumber(stored[2]) or (not stored[2] and 0)
if not revision or not epoch then
  return redis.error_reply('ERR ' .. KEYS[1] .. ' holds no readable revision and epoch')
end
if epoch > tonumber(ARGV[3]) then return -1 end
if revision ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'epoch', ARGV[3], 'body', ARGV[4])
if ARGV[5] ~= '' then redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', 'r', ARGV[5]) end
if ARGV[9] ~= '' then add_within(KEYS[3], tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[9], ARGV[2]) end
redis.call('PUBLISH', ARGV[7], ARGV[8])
return 1
"""
"""Replies 1 written, 0 another revision, -1 a newer epoch."""

ADD_SAMPLE = f"""#!lua
-- KEYS: samples; ARGV: packed sample, revision, bytes kept, entry bytes, expiry s
{_ADD_WITHIN}
add_within(KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
"""

APPEND = """#!lua
-- KEYS: evidence, boots, pairs, account
-- ARGV: sequence field, sequence, boot, expiry s, pairs in payload, payload, keep bytes, entry bytes, field, value, ...
local last = tonumber(redis.call('HGET', KEYS[1], ARGV[1])) or 0
-- Only later batches count: a repeated one, or one that a frozen server received late, changes nothing.
if tonumber(ARGV[2]) <= last then return {0, 0} end
local gap = tonumber(ARGV[2]) > last + 1 and 1 or 0
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for i = 9, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
if tonumber(ARGV[5]) == 0 then return {0, gap} end

local entry_bytes, keep = tonumber(ARGV[8]), tonumber(ARGV[7])
local account = redis.call('HGET', KEYS[4], 'bytes')
-- An account that nobody can add to would stop the log for ever: it begins anew, and what is older goes first.
if account and (#account > 15 or not string.match(account, '^%d+$')) then redis.call('DEL', KEYS[4]) end
local written = redis.call('HINCRBY', KEYS[4], 'bytes', #ARGV[6] + entry_bytes)
redis.call('XADD', KEYS[3], '*', 'p', ARGV[6], 'n', ARGV[5], 'b', string.format('%.0f', written))
-- Each entry knows where it ends in all bytes ever written, so the bytes held are `written` less the start of the
-- oldest entry: exact, also after somebody else deleted entries.
local trimmed = 0
while true do
  local oldest = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
  if not oldest then break end
  local entry = {}
  for i = 1, #oldest[2], 2 do entry[oldest[2][i]] = oldest[2][i + 1] end
  local ends = tonumber(entry.b)
  -- An entry without a readable place, or from beyond all that was written, is not ours: it goes first.
  if ends and entry.p and ends <= written and written - (ends - #entry.p - entry_bytes) <= keep then break end
  redis.call('XDEL', KEYS[3], oldest[1])
  trimmed = trimmed + (tonumber(entry.n) or 0)
end
if trimmed > 0 then redis.call('HINCRBY', KEYS[4], 'trimmed', string.format('%.0f', trimmed)) end
return {trimmed, gap}
"""
"""Replies the number of pairs trimmed by this write, and 1 if the batch before it is not known here."""

MARK_SEEN = """#!lua
-- KEYS: bitmaps of exposures, newest first; ARGV: expiry s, cells
local found = {}
for i = 2, #ARGV do
  local last = -1
  if redis.call('SETBIT', KEYS[1], ARGV[i], 1) == 0 then
    last = 0
    for k = 2, #KEYS do
      if redis.call('GETBIT', KEYS[k], ARGV[i]) == 1 then
        last = k - 1
        break
      end
    end
  end
  found[i - 1] = last
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return found
"""
"""Replies for each cell -1 marked before, 0 new, or how many exposures before the newest it was seen last."""

COUNT_LABELS = """#!lua
-- KEYS: labels, evidence, boots, classes, then bitmaps of exposures, oldest first
-- ARGV: boot, expiry s, labels kept, classes kept, id of each exposure, then for each label: id, label, place of its
--   exposure, key's cell (-1 a unit by itself, '' no keys here), number of fields, each and the field by key, number
--   of classes, and for each of these: class, 1 if a gate names it, field, field by key
local first_bitmap = 5
local exposures = #KEYS - first_bitmap + 1
local held, classes = redis.call('HLEN', KEYS[1]), redis.call('SCARD', KEYS[4])
local labels_kept, classes_kept = tonumber(ARGV[3]), tonumber(ARGV[4])
local results, added, counted, uncounted = {}, {}, {}, 0

local function count(field, keyed_field, last)
  added[field] = (added[field] or 0) + 1
  if last then added[keyed_field .. last] = (added[keyed_field .. last] or 0) + 1 end
end

-- The exposure in which the key was counted last before, '0' for none, nil if it does not count. A key that a later
-- exposure has does not count in an earlier one: to the evidence since a start before both it would be two.
local function last_of(place, cell)
  if cell == '' then return nil end
  if cell == '-1' then return '0' end
  local last = '0'
  for i = exposures, 1, -1 do
    if redis.call('GETBIT', KEYS[first_bitmap + i - 1], cell) == 1 then
      if i >= place then return nil end
      last = ARGV[4 + i]
      break
    end
  end
  redis.call('SETBIT', KEYS[first_bitmap + place - 1], cell, 1)
  redis.call('EXPIRE', KEYS[first_bitmap + place - 1], ARGV[2])
  return last
end

local function is_counted(class, named)
  if counted[class] == nil then
    local known = redis.call('SISMEMBER', KEYS[4], class) == 1
    if not known and (named == '1' or classes < classes_kept) then
      redis.call('SADD', KEYS[4], class)
      classes = classes + 1
      known = true
    end
    counted[class] = known
  end
  return counted[class]
end

local at = 5 + exposures
while at <= #ARGV do
  local id, label, place, cell = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  local fields = at + 5
  local classes_at = fields + 2 * tonumber(ARGV[at + 4]) + 1
  local behind = classes_at + 4 * tonumber(ARGV[classes_at - 1])
  local result = 1
  if redis.call('HEXISTS', KEYS[1], id) == 1 then
    result = 0
  elseif held >= labels_kept then
    result = -1
  else
    redis.call('HSET', KEYS[1], id, label)
    held = held + 1
    local last = last_of(place, cell)
    for i = fields, classes_at - 2, 2 do count(ARGV[i], ARGV[i + 1], last) end
    for i = classes_at, behind - 4, 4 do
      if is_counted(ARGV[i], ARGV[i + 1]) then
        count(ARGV[i + 2], ARGV[i + 3], last)
      else
        uncounted = uncounted + 1
      end
    end
  end
  results[#results + 1] = result
  at = behind
end

for field, number in pairs(added) do redis.call('HINCRBY', KEYS[2], field, number) end
redis.call('SADD', KEYS[3], ARGV[1])
for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
return {uncounted, unpack(results)}
"""
"""Replies how many classes were too many to count, then for each label 1 counted, 0 there before, -1 no room."""

ACQUIRE_LEASE = """#!lua flags=allow-oom
-- KEYS: lease; ARGV: holder, ttl ms, least epoch
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('HMGET', KEYS[1], 'holder', 'epoch', 'expires')
local holder, epoch, expires = lease[1] or '', tonumber(lease[2]) or 0, tonumber(lease[3]) or 0
local ttl, least = tonumber(ARGV[2]), tonumber(ARGV[3])
if holder ~= '' and holder ~= ARGV[1] and expires > now then
  -- Further away than any lease lasts: the server's clock went back. Wait one ttl, not an hour.
  if expires > now + ttl then redis.call('HSET', KEYS[1], 'expires', string.format('%.0f', now + ttl)) end
  return false
end
-- A renewal keeps its epoch, unless the states have seen a higher one (the store came back older).
if holder ~= ARGV[1] or epoch < least then epoch = math.max(epoch, least) + 1 end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'epoch', string.format('%.0f', epoch),
  'expires', string.format('%.0f', now + ttl))
return epoch
"""
"""Replies the epoch, or nil when another holds the lease."""

RELEASE_LEASE = """#!lua flags=allow-oom
-- KEYS: lease; ARGV: holder. The epoch stays, so that the next one is higher.
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'holder', '', 'expires', '0')
end
return 1
"""

BEAT = """#!lua flags=allow-oom
-- KEYS: replicas, when each was seen; ARGV: boot, heartbeat, its second, the second before which others are forgotten
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
local silent = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[4], 'LIMIT', 0, 100)
if #silent > 0 then
  redis.call('HDEL', KEYS[1], unpack(silent))
  redis.call('ZREM', KEYS[2], unpack(silent))
end
return #silent
"""

-- Stands before every script: what the ledger is, its generations, and reading and changing accounts and attempts.
--
-- KEYS[1] is `<prefix>meta`; every other key begins with the same prefix, hash tag included, so one cluster slot holds all.
--   <prefix>meta       hash: gen, seq, epoch, run, opens, base, from, start (see `guard`)
--   <prefix>u:<name>   hash, an account: s<slot> spent, r<slot> reserved, e<slot> end of the slot; g generation and state,
--                      q sequence of its last change; of a rolling one the sums ts and tr over the
--                      span tl, right until t;
--                      after a loss u, c, k, l, b of each slot and z (see `adopt`)
--   <prefix>a:<id>     string, an attempt: lines (see `save`)
--   <prefix>leases     sorted set: id of a reserved attempt -> end of its lease
-- Everything is a whole number below 2^53, which a Lua number holds exactly; moments are milliseconds of the Unix epoch.
local MOST = 9007199254740991
local DAY = 86400000
local TOMBSTONE_MS = 600000
local UNKNOWN_END_MS = 40 * DAY -- longer than the longest window
local JUMP = 4294967296 -- more changes than anybody can be ahead of what this call knows

local meta = KEYS[1]
local prefix = string.sub(meta, 1, -5)
local leases = prefix .. 'leases'

local position = 0
local function text()
  position = position + 1
  return ARGV[position]
end
local function number()
  position = position + 1
  return tonumber(ARGV[position])
end
local function whole(value)
  return string.format('%.0f', value)
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local stored = redis.call('HMGET', meta, 'gen', 'seq', 'epoch', 'run', 'opens', 'base', 'from', 'start')
local ledger = {
  gen = tonumber(stored[1] or 0),
  seq = tonumber(stored[2] or 0),
  epoch = stored[3] or '',
  run = stored[4] or '',
  opens = tonumber(stored[5] or 0),
  base = tonumber(stored[6] or 0), -- seq at the start of this epoch
  start = tonumber(stored[8] or 0), -- seq at the start of this generation
  from = tonumber(stored[7] or 0), -- seq up to which accounts are complete that were not changed since
}

local function answer(code)
  return { code, ledger.gen, ledger.seq, ledger.epoch, now, ledger.opens }
end

-- Reads what the caller has seen of this ledger and compares. True: data was lost, the caller must restore it first.
--
-- An epoch is one life of one server process. When another one begins (restart, fail-over) nothing is reserved or
-- settled for a while, so that everybody who saw a later state can say so. A caller that comes from another epoch must not
-- have seen more than this one began with. Lost data starts a new generation.
local function guard(restoring)
  local gen, seq, epoch, grace = number(), number(), text(), number()
  ledger.grace = grace
  local info = redis.pcall('INFO', 'server')
  local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or 'unknown'
  local begins, lost = false, false
  if ledger.gen > 0 and ledger.run ~= run then
    begins = true
    ledger.base = ledger.seq
  end
  local complete = ledger.base
  if not begins and epoch == ledger.epoch then
    complete = ledger.seq
  end
  if ledger.gen == 0 or gen > ledger.gen or (gen == ledger.gen and seq > complete) then
    begins = true
    lost = gen > 0
    ledger.from = ledger.base
    ledger.gen = math.max(gen, ledger.gen) + 1
    if lost then
      ledger.seq = math.max(seq, ledger.seq) + JUMP
    end
    ledger.base, ledger.start = ledger.seq, ledger.seq
  elseif gen > 0 and gen < ledger.gen then
    lost = true
  end
  if begins then
    ledger.run = run
    ledger.epoch = run .. '@' .. whole(now)
    ledger.opens = now + grace
    redis.call('HSET', meta, 'gen', whole(ledger.gen), 'seq', whole(ledger.seq), 'epoch', ledger.epoch, 'run', run,
      'opens', whole(ledger.opens), 'base', whole(ledger.base), 'from', whole(ledger.from),
      'start', whole(ledger.start))
  end
  return lost and not restoring
end

-- A clock that was set back does not keep the ledger closed for longer than it was to be.
local function closed()
  return now < ledger.opens and ledger.opens - now <= ledger.grace
end

-- What an account's `g` says: that its reservations are those of this generation, or that they are being restored.
local function mark()
  return whole(ledger.gen)
end
local function restoring_mark()
  return whole(ledger.gen) .. 'c'
end

local function all_fields(key)
  local flat, fields = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

-- What was reserved before data was lost and was claimed by nobody counts as spent; `l` is what of `s` stands for it.
local function level(key, fields, slot)
  local left, counted = 0, tonumber(fields['l' .. slot] or 0)
  if slot ~= '0' then -- slot 0 holds what is never spent
    left = math.max(0, tonumber(fields['u' .. slot] or 0) - tonumber(fields['c' .. slot] or 0))
  end
  if left ~= counted then
    local spent = tonumber(fields['s' .. slot] or 0) - counted + left
    redis.call('HSET', key, 's' .. slot, whole(math.max(0, math.min(MOST, spent))), 'l' .. slot, whole(left))
    redis.call('HDEL', key, 't')
  end
end

-- Ends the restoration of an account, once the ledger is open.
local function finish(key)
  local fields = all_fields(key)
  for field in pairs(fields) do
    local slot = string.match(field, '^u(%d+)$')
    if slot then
      level(key, fields, slot)
    end
  end
  redis.call('HSET', key, 'g', mark())
end

-- First touch of an account in this generation: its reservations are of attempts that nobody has claimed yet (u). Owners
-- claim theirs (c, and r again), and all tell what they saw (b of s, as of sequence k). Of a rolling account a sum is seen:
-- it stands in the bucket kb.
local function adopt(key, state)
  if state ~= restoring_mark() then
    local fields = all_fields(key)
    local unfinished = string.match(state, 'c$')
    for field in pairs(fields) do
      if string.match(field, '^[rcklb]%d*$') then
        redis.call('HDEL', key, field)
      end
    end
    for field in pairs(fields) do
      local slot = string.match(field, '^[sru](%d+)$')
      if slot then
        local unclaimed = tonumber(fields['r' .. slot] or 0)
        if unfinished then
          unclaimed = unclaimed + math.max(0, tonumber(fields['u' .. slot] or 0) - tonumber(fields['c' .. slot] or 0))
        end
        redis.call('HSET', key, 'u' .. slot, whole(unclaimed), 'b' .. slot, fields['s' .. slot] or '0')
      end
    end
    redis.call('HDEL', key, 't', 'z', 'kb')
    redis.call('HSET', key, 'g', restoring_mark())
    if tonumber(fields['q'] or 0) > ledger.from then
      redis.call('HSET', key, 'z', '1') -- was changed between the loss and its discovery
    end
  end
  if not closed() then
    finish(key)
  end
end

local function key_of(name)
  return prefix .. 'u:' .. name
end

-- Reads fields of an account, which is brought into this generation first.
local function read_account(name, ...)
  local key = key_of(name)
  local values = redis.call('HMGET', key, 'g', ...)
  local state = values[1]
  if state and state ~= mark() and not (closed() and state == restoring_mark()) then
    adopt(key, state)
    values = redis.call('HMGET', key, 'g', ...)
  end
  return values
end

local slots, changed = {}, {}

-- One slot of an account; changes are kept here until `flush`, so that nothing is written before all is known.
local function slot_of(name, slot)
  local id = slot .. ' ' .. name
  local found = slots[id]
  if not found then
    local values = read_account(name, 's' .. slot, 'r' .. slot, 'e' .. slot)
    found = {
      key = key_of(name),
      slot = slot,
      spent = tonumber(values[2] or 0),
      reserved = tonumber(values[3] or 0),
      ends = tonumber(values[4] or 0),
      exists = values[2] or values[3],
    }
    slots[id] = found
  end
  return found
end

local function change(name, slot, rolling, spent, reserved, ends)
  local found = slot_of(name, slot)
  if not found.exists then
    if ends > 0 and 2 * ends - tonumber(slot) < now then
      return -- nobody counts this window any more
    end
    if slot ~= '0' then
      found.ends = now + UNKNOWN_END_MS
    end
  end
  if ends > 0 and ends ~= found.ends then
    found.resized = found.exists
    found.ends = ends
  end
  if not found.changed then
    found.changed, found.rolling = true, rolling == '1'
    found.spent_before, found.reserved_before = found.spent, found.reserved
    changed[#changed + 1] = found
  end
  found.spent = math.max(0, math.min(MOST, found.spent + spent))
  found.reserved = math.max(0, found.reserved + reserved)
end

-- Keeps the sums of a rolling account right, or drops them where the moment at which its oldest use leaves may change.
local function add_to_sums(found)
  local was_empty = found.spent_before == 0 and found.reserved_before == 0
  if was_empty or found.resized or (found.spent == 0 and found.reserved == 0) then
    redis.call('HDEL', found.key, 't')
  elseif found.ends > now then
    redis.call('HINCRBY', found.key, 'ts', whole(found.spent - found.spent_before))
    redis.call('HINCRBY', found.key, 'tr', whole(found.reserved - found.reserved_before))
  end
end

-- A window and the one after it are kept: late settlements belong to the window that admitted their attempt.
local function drop_old_slots(key)
  for field, value in pairs(all_fields(key)) do
    local slot = string.match(field, '^e(%d+)$')
    if slot and slot ~= '0' and 2 * tonumber(value) - tonumber(slot) < now then
      redis.call('HDEL', key, 's' .. slot, 'r' .. slot, 'e' .. slot, 'u' .. slot, 'c' .. slot, 'k' .. slot,
        'l' .. slot, 'b' .. slot)
    end
  end
end

local function flush()
  if #changed == 0 then
    return
  end
  ledger.seq = ledger.seq + 1
  redis.call('HSET', meta, 'seq', whole(ledger.seq))
  for _, found in ipairs(changed) do
    local key, slot = found.key, found.slot
    if closed() then
      redis.call('HSET', key, 'g', restoring_mark(), 's' .. slot, whole(found.spent), 'r' .. slot, whole(found.reserved),
        'e' .. slot, whole(found.ends))
    elseif slot == '0' and found.reserved == 0 then
      redis.call('DEL', key)
    else
      redis.call('HSET', key, 'g', mark(), 'q', whole(ledger.seq), 's' .. slot, whole(found.spent), 'r' .. slot,
        whole(found.reserved), 'e' .. slot, whole(found.ends))
    end
    if found.rolling then
      add_to_sums(found)
    end
    if not found.exists and slot ~= '0' then
      drop_old_slots(key)
      local keep = 2 * found.ends - tonumber(slot)
      if keep - now > redis.call('PTTL', key) then
        redis.call('PEXPIREAT', key, whole(keep))
      end
    end
    found.changed, found.exists = false, true
  end
  changed = {}
end

local function advance()
  ledger.seq = ledger.seq + 1
  redis.call('HSET', meta, 'seq', whole(ledger.seq))
end

-- An attempt as it is stored: state, revision, basis, option, granted, generation; then seven lines for each
-- entry: account, slot, measure, reserved, rolling, end of the slot, settled. Each line ends with a line feed.
local function save(id, attempt)
  local lines = {
    attempt.state, whole(attempt.revision), attempt.basis, whole(attempt.option), whole(attempt.granted), whole(attempt.gen),
  }
  for _, entry in ipairs(attempt.entries) do
    lines[#lines + 1] = entry.account
    lines[#lines + 1] = entry.slot
    lines[#lines + 1] = entry.measure
    lines[#lines + 1] = whole(entry.amount)
    lines[#lines + 1] = entry.rolling
    lines[#lines + 1] = whole(entry.ends)
    lines[#lines + 1] = whole(entry.settled)
  end
  local body = table.concat(lines, '\n') .. '\n'
  if attempt.state == 'reserved' then
    redis.call('SET', prefix .. 'a:' .. id, body)
  else
    redis.call('SET', prefix .. 'a:' .. id, body, 'PX', attempt.state == 'abandoned' and TOMBSTONE_MS or DAY)
  end
end

local function stored_attempt(id)
  local body = redis.call('GET', prefix .. 'a:' .. id)
  if not body then
    return nil
  end
  local lines = {}
  for line in string.gmatch(body, '([^\n]*)\n') do
    lines[#lines + 1] = line
  end
  local attempt = {
    state = lines[1],
    revision = tonumber(lines[2]),
    basis = lines[3],
    option = tonumber(lines[4]),
    granted = tonumber(lines[5]),
    gen = tonumber(lines[6]),
    entries = {},
  }
  for i = 7, #lines, 7 do
    attempt.entries[#attempt.entries + 1] = {
      account = lines[i],
      slot = lines[i + 1],
      measure = lines[i + 2],
      amount = tonumber(lines[i + 3]),
      rolling = lines[i + 4],
      ends = tonumber(lines[i + 5]),
      settled = tonumber(lines[i + 6]),
    }
  end
  return attempt
end

local function expire(attempt)
  attempt.state, attempt.revision, attempt.basis = 'ended', 0, 'Expired'
  for _, entry in ipairs(attempt.entries) do
    entry.settled = entry.measure == 'slots' and 0 or entry.amount
  end
end

-- An attempt of an older generation that its owner did not claim became spend with its account.
local function attempt_of(id)
  local attempt = stored_attempt(id)
  if attempt and attempt.state == 'reserved' and attempt.gen ~= ledger.gen then
    expire(attempt)
  end
  return attempt
end

-- Turns at most `most` reservations whose lease has ended into spend.
local function sweep(most)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', '(' .. whole(now), 'LIMIT', 0, most)) do
    local attempt = stored_attempt(id)
    if attempt and attempt.state == 'reserved' then
      local counted = attempt.gen == ledger.gen
      expire(attempt)
      for _, entry in ipairs(attempt.entries) do
        if counted then
          change(entry.account, entry.slot, entry.rolling, entry.settled, -entry.amount, entry.ends)
        end
      end
      save(id, attempt)
    end
    redis.call('ZREM', leases, id)
  end
  flush()
end

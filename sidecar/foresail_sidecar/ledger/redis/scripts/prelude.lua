-- Stands before every script: what the ledger is, its generations, and reading and changing accounts and attempts.
--
-- KEYS[1] is `<prefix>meta`; every other key begins with the same prefix, hash tag included, so one cluster slot holds all.
--   <prefix>meta       hash: gen, seq, epoch, run, opens, base, from (see `guard`)
--   <prefix>u:<name>   hash, an account: s<slot> spent, r<slot> reserved, e<slot> end of the slot; g generation and state,
--                      q sequence of its last change; while a lost ledger is restored u<slot>, c<slot>, k<slot> (see `adopt`)
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

local stored = redis.call('HMGET', meta, 'gen', 'seq', 'epoch', 'run', 'opens', 'base', 'from')
local ledger = {
  gen = tonumber(stored[1] or 0),
  seq = tonumber(stored[2] or 0),
  epoch = stored[3] or '',
  run = stored[4] or '',
  opens = tonumber(stored[5] or 0),
  base = tonumber(stored[6] or 0), -- seq at the start of this epoch
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
    ledger.base = ledger.seq
  elseif gen > 0 and gen < ledger.gen then
    lost = true
  end
  if begins then
    ledger.run = run
    ledger.epoch = run .. '@' .. whole(now)
    ledger.opens = now + grace
    redis.call('HSET', meta, 'gen', whole(ledger.gen), 'seq', whole(ledger.seq), 'epoch', ledger.epoch, 'run', run,
      'opens', whole(ledger.opens), 'base', whole(ledger.base), 'from', whole(ledger.from))
  end
  return lost and not restoring
end

local function closed()
  return now < ledger.opens
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

-- Ends the restoration of an account: what was reserved and nobody claimed becomes spend.
local function finish(key)
  local fields = all_fields(key)
  local left, of_rolling = {}, fields['k'] and 0 or nil
  local latest
  for field, value in pairs(fields) do
    local kind, slot = string.match(field, '^([uc])(%d+)$')
    if kind then
      local sign = kind == 'u' and 1 or -1
      left[slot] = (left[slot] or 0) + sign * tonumber(value)
      if of_rolling then
        of_rolling = of_rolling + sign * tonumber(value)
        if kind == 'u' then
          latest = slot
        end
      end
      redis.call('HDEL', key, field)
    elseif string.match(field, '^k%d*$') then
      redis.call('HDEL', key, field)
    end
  end
  if of_rolling then
    left = latest and { [latest] = of_rolling } or {}
  end
  for slot, amount in pairs(left) do
    if amount > 0 and slot ~= '0' then -- slot 0 holds what is never spent
      redis.call('HSET', key, 's' .. slot, whole(math.min(MOST, tonumber(fields['s' .. slot] or 0) + amount)))
    end
  end
  redis.call('HSET', key, 'g', mark())
end

-- First touch of an account in this generation: its reservations are of attempts that nobody has claimed yet (u). Owners
-- claim theirs while the ledger is closed (c, and r again).
local function adopt(key, state)
  if state ~= restoring_mark() then
    local fields = all_fields(key)
    for field in pairs(fields) do
      local slot = string.match(field, '^[ru](%d+)$')
      if slot then
        local unclaimed = math.max(0, tonumber(fields['u' .. slot] or 0) - tonumber(fields['c' .. slot] or 0))
        redis.call('HSET', key, 'u' .. slot, whole(tonumber(fields['r' .. slot] or 0) + unclaimed))
      end
    end
    for field in pairs(fields) do
      if string.match(field, '^[rck]%d*$') then
        redis.call('HDEL', key, field)
      end
    end
    redis.call('HSET', key, 'g', restoring_mark())
  end
  if not closed() then
    finish(key)
  end
end

-- Brings an account into this generation and returns its key.
local function account(name)
  local key = prefix .. 'u:' .. name
  local state = redis.call('HGET', key, 'g')
  if state and state ~= mark() and not (closed() and state == restoring_mark()) then
    adopt(key, state)
  end
  return key
end

local adopted, slots, changed = {}, {}, {}

local function key_of(name)
  local key = adopted[name]
  if not key then
    key = account(name)
    adopted[name] = key
  end
  return key
end

-- One slot of an account; changes are kept here until `flush`, so that nothing is written before all is known.
local function slot_of(name, slot)
  local id = slot .. ' ' .. name
  local found = slots[id]
  if not found then
    local key = key_of(name)
    local values = redis.call('HMGET', key, 's' .. slot, 'r' .. slot, 'e' .. slot)
    found = {
      key = key,
      slot = slot,
      spent = tonumber(values[1] or 0),
      reserved = tonumber(values[2] or 0),
      ends = tonumber(values[3] or 0),
      exists = values[1] or values[2],
    }
    slots[id] = found
  end
  return found
end

local function change(name, slot, spent, reserved, ends)
  local found = slot_of(name, slot)
  if not found.exists then
    if ends > 0 and 2 * ends - tonumber(slot) < now then
      return -- nobody counts this window any more
    end
    if slot ~= '0' then
      found.ends = now + UNKNOWN_END_MS
    end
  end
  if ends > 0 then
    found.ends = ends
  end
  found.spent = math.max(0, math.min(MOST, found.spent + spent))
  found.reserved = math.max(0, found.reserved + reserved)
  if not found.changed then
    found.changed = true
    changed[#changed + 1] = found
  end
end

-- A window and the one after it are kept: late settlements belong to the window that admitted their attempt.
local function drop_old_slots(key)
  for field, value in pairs(all_fields(key)) do
    local slot = string.match(field, '^e(%d+)$')
    if slot and slot ~= '0' and 2 * tonumber(value) - tonumber(slot) < now then
      redis.call('HDEL', key, 's' .. slot, 'r' .. slot, 'e' .. slot, 'u' .. slot, 'c' .. slot, 'k' .. slot)
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
          change(entry.account, entry.slot, entry.settled, -entry.amount, entry.ends)
        end
      end
      save(id, attempt)
    end
    redis.call('ZREM', leases, id)
  end
  flush()
end

-- Takes what callers saw of a ledger that lost data, and claims the reservations that live on.
-- Arguments after the guard's: number of usages, for each: account, slot, spent, reserved, end of the slot (0: unknown),
-- sequence, rolling (1: a total over the span, 0: of this slot alone); number of live attempts, for each: id, lease in ms,
-- number of entries, for each: account, slot, measure, reserved, rolling.
guard(true)

local function known_up_to(fields, name)
  return tonumber(fields[name] or ledger.from)
end

local function take_latest(key, fields, seen)
  local known = seen.rolling and 'k' or 'k' .. seen.slot
  if seen.sequence <= known_up_to(fields, known) then
    return
  end
  if seen.rolling then
    for field in pairs(fields) do
      if string.match(field, '^[su]%d+$') then
        redis.call('HDEL', key, field)
      end
    end
  end
  redis.call('HSET', key, 's' .. seen.slot, whole(seen.spent), 'u' .. seen.slot, whole(seen.reserved), known, whole(seen.sequence))
end

-- Somebody has already spent from this account since data was lost: it cannot be told what is counted twice.
local function take_larger(key, fields, seen)
  local spent = tonumber(fields['s' .. seen.slot] or 0)
  local total = spent
  if seen.rolling then
    total = 0
    for field, value in pairs(fields) do
      if string.match(field, '^s%d+$') then
        total = total + tonumber(value)
      end
    end
  end
  if seen.spent > total then
    redis.call('HSET', key, 's' .. seen.slot, whole(math.min(MOST, spent + seen.spent - total)))
  end
end

for _ = 1, number() do
  local name = text()
  local seen = { slot = text(), spent = number(), reserved = number(), ends = number(), sequence = number(), rolling = text() == '1' }
  local held = seen.slot == '0'
  local ends = (seen.ends > 0 or held) and seen.ends or now + UNKNOWN_END_MS
  local keep = 2 * ends - tonumber(seen.slot)
  if held or keep > now then
    local key = account(name)
    local fields = all_fields(key)
    if not fields['g'] then
      fields['g'] = closed() and restoring_mark() or mark()
      redis.call('HSET', key, 'g', fields['g'])
    end
    if fields['g'] == restoring_mark() and tonumber(fields['q'] or 0) <= ledger.from then
      take_latest(key, fields, seen)
    elseif not held then
      take_larger(key, fields, seen)
    end
    if not held then
      redis.call('HSET', key, 'e' .. seen.slot, whole(ends))
      if keep - now > redis.call('PTTL', key) then
        redis.call('PEXPIREAT', key, whole(keep))
      end
    end
  end
end

for _ = 1, number() do
  local id, lease = text(), number()
  local entries = {}
  for i = 1, number() do
    entries[i] = {
      account = text(), slot = text(), measure = text(), amount = number(), rolling = text(), ends = 0, settled = 0,
    }
  end
  local attempt = stored_attempt(id)
  local mine = attempt and attempt.gen == ledger.gen
  if not attempt or (attempt.state == 'reserved' and not mine) then
    for _, entry in ipairs(entries) do
      local late = attempt and not closed() and entry.measure ~= 'slots'
      change(entry.account, entry.slot, late and -entry.amount or 0, entry.amount, entry.ends)
      if closed() then
        redis.call('HINCRBY', key_of(entry.account), 'c' .. entry.slot, whole(entry.amount))
      end
    end
    save(id, {
      state = 'reserved', revision = 0, basis = '', option = attempt and attempt.option or 0,
      granted = attempt and attempt.granted or 0, gen = ledger.gen, entries = entries,
    })
  end
  if not attempt or attempt.state == 'reserved' then
    redis.call('ZADD', leases, whole(now + lease), id)
  end
end
flush()
return answer('Done')

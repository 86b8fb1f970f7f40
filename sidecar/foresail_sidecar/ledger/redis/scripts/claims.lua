-- Stands after the prelude in scripts that read claims: in which slot a claim counts now, and what its account has used.
local function read_claims()
  local claims = {}
  for i = 1, number() do
    local claim = {
      account = text(),
      measure = text(),
      limit = number(),
      overdraft = number(),
      enforced = text() == '1',
      amount = number(),
      span = text(),
      windows = {},
    }
    if claim.span == 'calendar' then
      for j = 1, number() do
        claim.windows[j] = { number(), number() }
      end
    elseif claim.span == 'rolling' then
      claim.length, claim.bucket = number(), number()
    end
    claims[i] = claim
  end
  return claims
end

local function load_rolling(claim)
  local first = now - now % claim.bucket
  local names, starts = {}, {}
  local start = first
  while start + claim.bucket > now - claim.length and start >= 0 do
    starts[#starts + 1] = start
    names[#names + 1] = 's' .. whole(start)
    names[#names + 1] = 'r' .. whole(start)
    start = start - claim.bucket
  end
  local values = redis.call('HMGET', key_of(claim.account), unpack(names))
  claim.spent, claim.reserved, claim.window_ends = 0, 0, -1
  for i, started in ipairs(starts) do
    local spent, reserved = tonumber(values[2 * i - 1] or 0), tonumber(values[2 * i] or 0)
    claim.spent, claim.reserved = claim.spent + spent, claim.reserved + reserved
    if spent > 0 or reserved > 0 then
      claim.window_ends = started + claim.bucket + claim.length
    end
  end
  claim.spent = math.min(MOST, claim.spent)
  claim.slot, claim.ends = whole(first), first + claim.bucket + claim.length
end

-- Fills in slot, ends (of the slot), spent, reserved and window_ends (-1: none). False if no window holds the present.
local function load(claim)
  if claim.span == 'rolling' then
    load_rolling(claim)
    return true
  end
  if claim.span == 'held' then
    claim.slot, claim.ends, claim.window_ends = '0', 0, -1
  else
    for _, window in ipairs(claim.windows) do
      if window[1] <= now and now < window[2] then
        claim.slot, claim.ends, claim.window_ends = whole(window[1]), window[2], window[2]
      end
    end
    if not claim.slot then
      return false
    end
  end
  local found = slot_of(claim.account, claim.slot)
  claim.spent, claim.reserved = found.spent, found.reserved
  return true
end

local function append_usage(reply, claim)
  reply[#reply + 1] = claim.slot
  reply[#reply + 1] = claim.spent
  reply[#reply + 1] = claim.reserved
  reply[#reply + 1] = claim.window_ends
end

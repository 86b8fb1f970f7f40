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
      claim.shape = whole(claim.length) .. '/' .. whole(claim.bucket)
    end
    claims[i] = claim
  end
  return claims
end

local function sum_buckets(claim, first)
  local names, starts = {}, {}
  local start = first
  while start + claim.bucket > now - claim.length and start >= 0 do
    starts[#starts + 1] = start
    names[#names + 1] = 's' .. start
    names[#names + 1] = 'r' .. start
    start = start - claim.bucket
  end
  local key = key_of(claim.account)
  local values = redis.call('HMGET', key, unpack(names))
  claim.spent, claim.reserved, claim.window_ends = 0, 0, -1
  for i, started in ipairs(starts) do
    local spent, reserved = tonumber(values[2 * i - 1] or 0), tonumber(values[2 * i] or 0)
    claim.spent, claim.reserved = claim.spent + spent, claim.reserved + reserved
    if spent > 0 or reserved > 0 then
      claim.window_ends = started + claim.bucket + claim.length
    end
  end
  if claim.window_ends >= 0 then
    -- A server without memory left still tells what was used.
    redis.pcall('HSET', key, 'ts', whole(claim.spent), 'tr', whole(claim.reserved), 't', whole(claim.window_ends),
      'tl', claim.shape)
  end
end

-- The sums over all buckets are kept beside them: they are added up again only when the oldest leaves.
local function load_rolling(claim)
  local first = now - now % claim.bucket
  local values = read_account(claim.account, 'ts', 'tr', 't', 'tl')
  if values[4] and now < tonumber(values[4]) and values[5] == claim.shape then
    claim.spent, claim.reserved, claim.window_ends = tonumber(values[2]), tonumber(values[3]), tonumber(values[4])
  else
    sum_buckets(claim, first)
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

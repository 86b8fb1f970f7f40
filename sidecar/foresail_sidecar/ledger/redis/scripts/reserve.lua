-- Reserves the first option whose claims all fit, or writes nothing.
-- Arguments after the guard's: id, lease in ms, claims of the budgets, number of options, for each: wanted, least,
-- overdraws, its claims.
if guard(false) then
  return answer('Lost')
end
local id, lease = text(), number()
local budgets = read_claims()
local options = {}
for i = 1, number() do
  options[i] = { wanted = number(), least = number(), overdraws = text() == '1', claims = read_claims() }
end

local function each(option, visit)
  for _, claim in ipairs(budgets) do
    visit(claim)
  end
  for _, claim in ipairs(option.claims) do
    visit(claim)
  end
end

local function load_all(claims)
  for _, claim in ipairs(claims) do
    if not load(claim) then
      return false
    end
  end
  return true
end

local function granted(attempt, option)
  local reply = answer('Granted')
  reply[#reply + 1] = attempt.option
  reply[#reply + 1] = attempt.granted
  reply[#reply + 1] = attempt.gen
  reply[#reply + 1] = #attempt.entries
  for _, entry in ipairs(attempt.entries) do
    reply[#reply + 1] = entry.account
    reply[#reply + 1] = entry.slot
    reply[#reply + 1] = entry.measure
    reply[#reply + 1] = entry.amount
    reply[#reply + 1] = entry.rolling
  end
  each(option, function(claim)
    append_usage(reply, claim)
  end)
  return reply
end

if not closed() then
  sweep(16)
end
local attempt = attempt_of(id)
if attempt and attempt.state == 'abandoned' then
  return answer('Abandoned')
end
if closed() then
  return answer('Closed')
end
if not load_all(budgets) then
  return answer('Outdated')
end
if attempt then
  local option = options[attempt.option + 1] or options[1]
  if not load_all(option.claims) then
    return answer('Outdated')
  end
  return granted(attempt, option)
end

local shortages = {}
local function free(claim, option)
  return claim.limit + (option.overdraws and claim.overdraft or 0) - claim.spent - claim.reserved
end
for number_of_option, option in ipairs(options) do
  if not load_all(option.claims) then
    return answer('Outdated')
  end
  local fits, amount, index = true, option.wanted, 0
  each(option, function(claim)
    local money = claim.measure == 'money'
    local needed = money and option.least or claim.amount
    if claim.enforced and needed > 0 and free(claim, option) < needed then
      fits = false
      shortages[#shortages + 1] = { number_of_option - 1, index, claim.spent, claim.reserved, needed, claim.window_ends }
    elseif claim.enforced and money then
      amount = math.max(0, math.min(amount, free(claim, option)))
    end
    index = index + 1
  end)
  if fits then
    attempt = {
      state = 'reserved', revision = 0, basis = '', option = number_of_option - 1, granted = amount, gen = ledger.gen, entries = {},
    }
    each(option, function(claim)
      local taken = claim.measure == 'money' and amount or claim.amount
      change(claim.account, claim.slot, claim.span == 'rolling' and '1' or '0', 0, taken, claim.ends)
      claim.reserved = claim.reserved + taken
      if claim.span == 'rolling' and claim.window_ends < 0 and taken > 0 then
        claim.window_ends = claim.ends
      end
      attempt.entries[#attempt.entries + 1] = {
        account = claim.account, slot = claim.slot, measure = claim.measure, amount = taken,
        rolling = claim.span == 'rolling' and '1' or '0', ends = claim.ends, settled = 0,
      }
    end)
    if #attempt.entries > 0 then
      flush()
    else
      advance()
    end
    save(id, attempt)
    redis.call('ZADD', leases, whole(now + lease), id)
    return granted(attempt, option)
  end
end

local reply = answer('Denied')
reply[#reply + 1] = #shortages
for _, shortage in ipairs(shortages) do
  for _, value in ipairs(shortage) do
    reply[#reply + 1] = value
  end
end
for _, claim in ipairs(budgets) do
  append_usage(reply, claim)
end
for _, option in ipairs(options) do
  for _, claim in ipairs(option.claims) do
    append_usage(reply, claim)
  end
end
return reply

-- Posts one AdmissionReview again and again, each time with a uid of its own: two equal ones are one decision.
-- ADMISSION_BODY names the file, in which @UID@ stands for the uid. Prints one line of JSON at the end.

local file = assert(io.open(os.getenv("ADMISSION_BODY"), "rb"))
local text = file:read("*a")
file:close()
local from, to = text:find("@UID@", 1, true)
local before, after = text:sub(1, from - 1), text:sub(to + 1)
local prefix, count = os.getenv("ADMISSION_RUN"), 0
local headers = { ["Content-Type"] = "application/json" }

function request()
  count = count + 1
  return wrk.format("POST", nil, headers, before .. prefix .. string.format("%012x", count) .. after)
end

function response(status)
  if status ~= 200 then wrk.thread:stop() end
end

function done(summary, latency)
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50":%.3f,"p99":%.3f,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
      + summary.errors.timeout))
end

-- A JSON POST of BODY_BYTES bytes (100 unless set), the workload of design.md section 9; longer ones have a longer id.
-- HEADERS more header fields (0 unless set), each of 26 bytes.
local body = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}],"id":"0123456789"}'
local more = (tonumber(os.getenv("BODY_BYTES") or "") or #body) - #body
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
for number = 1, tonumber(os.getenv("HEADERS") or "") or 0 do
  wrk.headers[string.format("x-more-%03d", number)] = "0123456789ab"
end
wrk.body = body:gsub("0123456789", "0123456789" .. string.rep("0", more))

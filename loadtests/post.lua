-- A JSON POST of BODY_BYTES bytes (100 unless set), the workload of design.md section 9; longer ones have a longer id.
local body = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}],"id":"0123456789"}'
local more = (tonumber(os.getenv("BODY_BYTES") or "") or #body) - #body
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = body:gsub("0123456789", "0123456789" .. string.rep("0", more))

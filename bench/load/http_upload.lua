-- wrk: 64 KiB.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.body = ("0123456789abcdef"):rep(4096)

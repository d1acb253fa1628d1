-- wrk: a small order.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"id":17,"customer":"Ann Example","items":[{"sku":"a-1","quantity":2,"price":9.5},'
  .. '{"sku":"b-2","quantity":1,"price":20}]}'

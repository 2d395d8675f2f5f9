// A bracket's life as @stoqey/ib sees it: `stoqey.cjs PORT CONTROL`, in the folder of the packages; prints JSON.

const net = require("node:net");
const { EventName, IBApi } = require(require.resolve("@stoqey/ib", { paths: [process.cwd()] }));

const [port, control] = process.argv.slice(2).map(Number);
const api = new IBApi({ host: "127.0.0.1", port, clientId: 4 });
const heard = [];
const seen = (name, pick) => api.on(EventName[name], (...args) => heard.push([name, ...pick(...args)]));

seen("nextValidId", (id) => [id]);
seen("openOrder", (id, contract, order, state) => [id, order.orderRef, order.orderType, order.auxPrice, order.ocaType, state.status]);
seen("orderStatus", (id, status, filled) => [id, status, filled]);
seen("execDetails", (reqId, contract, execution) => [reqId, execution.orderRef, execution.price]);
seen("position", (account, contract, size, cost) => [contract.symbol, size, cost]);
seen("contractDetails", (reqId, details) => [details.contract.conId, details.minTick, details.marketRuleIds]);
seen("accountSummary", (reqId, account, tag, value) => [tag, value]);
for (const name of ["positionEnd", "execDetailsEnd", "accountSummaryEnd", "accountDownloadEnd", "contractDetailsEnd", "connected"]) {
  seen(name, () => []);
}
api.on(EventName.error, (error, code, id) => heard.push(["error", code, id]));

async function until(...wanted) {
  for (let turn = 0; turn < 1000; turn += 1) {
    const found = heard.find((one) => wanted.every((word, at) => one[at] === word));
    if (found) return found;
    await new Promise((done) => setTimeout(done, 10));
  }
  console.error(`${wanted} was not heard: ${JSON.stringify(heard)}`);
  process.exit(1);
}

function say(message) {
  return new Promise((done) => {
    const client = net.connect(control, "127.0.0.1", () => client.write(`${JSON.stringify(message)}\n`));
    client.once("data", () => done(client.end()));
  });
}

async function main() {
  api.connect();
  const [, first] = await until("nextValidId");
  const eurusd = { symbol: "EUR", secType: "CASH", exchange: "IDEALPRO", currency: "USD" };
  api.reqContractDetails(1, eurusd);
  await until("contractDetailsEnd");
  api.reqAccountSummary(2, "All", "NetLiquidation,FullInitMarginReq");
  await until("accountSummaryEnd");
  api.reqAccountUpdates(true, "DU1234567");
  await until("accountDownloadEnd");
  const common = { totalQuantity: 20000, tif: "GTC" };
  const exit = { ...common, action: "SELL", parentId: first };
  api.placeOrder(first, eurusd, { ...common, action: "BUY", orderType: "MKT", orderRef: "E", transmit: false });
  api.placeOrder(first + 1, eurusd, { ...exit, orderType: "LMT", lmtPrice: 1.2, orderRef: "T", transmit: false });
  api.placeOrder(first + 2, eurusd, { ...exit, orderType: "STP", auxPrice: 1.18, orderRef: "S", transmit: true });
  await until("orderStatus", first, "Filled");
  await until("orderStatus", first + 1, "Submitted");
  await until("orderStatus", first + 2, "PreSubmitted");
  api.reqPositions();
  await until("positionEnd");
  await say({ do: "set_price", symbol: "EURUSD", price: "1.1795" });
  await until("orderStatus", first + 2, "Filled");
  await until("orderStatus", first + 1, "Cancelled");
  api.reqExecutions(9, {});
  await until("execDetailsEnd");
  const of = (name, ...rest) => heard.filter((one) => [name, ...rest].every((word, at) => one[at] === word));
  console.log(JSON.stringify({
    version: api.serverVersion,
    position: of("position")[0].slice(1),
    details: of("contractDetails")[0].slice(1, 3),
    stop: of("openOrder", first + 2)[0].slice(2),
    fills: of("execDetails", 9).map((one) => one.slice(2)),
    summary: of("accountSummary").map((one) => one[1]),
    codes: [...new Set(of("error").map((one) => one[1]))].sort(),
  }));
  api.disconnect();
}

main();

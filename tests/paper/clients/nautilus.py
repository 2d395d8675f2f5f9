"""A bracket's life on an unchanged nautilus_trader node: `nautilus.py PORT CONTROL`; prints what happened as JSON."""

import asyncio
import json
import sys

from nautilus_trader.adapters.interactive_brokers.common import IB, IBContract
from nautilus_trader.adapters.interactive_brokers.config import (
    InteractiveBrokersDataClientConfig,
    InteractiveBrokersExecClientConfig,
    InteractiveBrokersInstrumentProviderConfig,
)
from nautilus_trader.adapters.interactive_brokers.factories import (
    InteractiveBrokersLiveDataClientFactory,
    InteractiveBrokersLiveExecClientFactory,
)
from nautilus_trader.config import LiveDataEngineConfig, LoggingConfig, RoutingConfig, TradingNodeConfig
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.enums import OrderSide, OrderType, TimeInForce
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.trading.strategy import Strategy

port, control = int(sys.argv[1]), int(sys.argv[2])
APPLE = InstrumentId.from_str("AAPL.NASDAQ")


async def say(**message):
    reader, writer = await asyncio.open_connection("127.0.0.1", control)
    writer.write(json.dumps(message).encode() + b"\n")
    answer = json.loads(await reader.readline())
    writer.close()
    return answer["result"]


class Bracket(Strategy):
    """Buys ten shares with both exits, and has the target reached."""

    def on_start(self):
        self.heard, self.isin = [], self.cache.instrument(APPLE).isin
        bracket = self.order_factory.bracket(
            instrument_id=APPLE,
            order_side=OrderSide.BUY,
            quantity=self.cache.instrument(APPLE).make_qty(10),
            entry_order_type=OrderType.MARKET,
            time_in_force=TimeInForce.GTC,
            sl_trigger_price=self.cache.instrument(APPLE).make_price(250),
            tp_order_type=OrderType.LIMIT,
            tp_price=self.cache.instrument(APPLE).make_price(280),
            tp_post_only=False,
        )
        self.names = {
            one.client_order_id: name for one, name in zip(bracket.orders, ("entry", "stop", "target"), strict=True)
        }
        self.submit_order_list(bracket)

    def on_order_event(self, event):
        self.heard.append((self.names[event.client_order_id], type(event).__name__))

    def has_heard(self, *wanted):
        return set(wanted) <= set(getattr(self, "heard", ()))


provider = InteractiveBrokersInstrumentProviderConfig(
    load_contracts=frozenset(
        {IBContract(secType="STK", symbol="AAPL", exchange="SMART", primaryExchange="NASDAQ", currency="USD")}
    )
)
node = TradingNode(
    TradingNodeConfig(
        logging=LoggingConfig(log_level="ERROR"),
        data_clients={
            IB: InteractiveBrokersDataClientConfig(ibg_port=port, ibg_client_id=5, instrument_provider=provider)
        },
        exec_clients={
            IB: InteractiveBrokersExecClientConfig(
                ibg_port=port,
                ibg_client_id=5,
                account_id="DU1234567",
                instrument_provider=provider,
                routing=RoutingConfig(default=True),
            )
        },
        data_engine=LiveDataEngineConfig(),
        timeout_connection=30,
    )
)
strategy = Bracket()
node.trader.add_strategy(strategy)
node.add_data_client_factory(IB, InteractiveBrokersLiveDataClientFactory)
node.add_exec_client_factory(IB, InteractiveBrokersLiveExecClientFactory)
node.build()


async def until(condition):
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.1)
    sys.exit(f"it did not happen within a minute: {getattr(strategy, 'heard', 'the node did not start')}")


async def main():
    running = asyncio.ensure_future(node.run_async())
    await until(
        lambda: strategy.has_heard(("entry", "OrderFilled"), ("stop", "OrderAccepted"), ("target", "OrderAccepted"))
    )
    await until(lambda: node.portfolio.net_position(APPLE) == 10)
    await say(do="set_price", symbol="AAPL", price="281")
    await until(lambda: strategy.has_heard(("target", "OrderFilled"), ("stop", "OrderCanceled")))
    await until(lambda: node.portfolio.is_flat(APPLE))
    orders = {strategy.names[one.client_order_id]: one.status_string() for one in node.cache.orders()}
    fills = {strategy.names[one.client_order_id]: float(one.avg_px) for one in node.cache.orders() if one.avg_px}
    print(json.dumps({"orders": orders, "fills": fills, "isin": strategy.isin}))
    await node.stop_async()
    running.cancel()


node.get_event_loop().run_until_complete(main())

"""Judge the readings of sensors that arrive over MQTT, and publish those that are odd, by FastStream.

pip install onlineguard 'faststream[mqtt,cli]'
faststream run examples.streams.from_mqtt:app
"""

from faststream import FastStream
from faststream.mqtt import MQTTBroker

from onlineguard import Engine

engine = Engine(features=["celsius", "humidity"], target_rate=0.001)
broker = MQTTBroker("localhost")
app = FastStream(broker)


@broker.subscriber("sensors/+")
async def judge(reading: dict[str, str | float]) -> None:
    """Take a reading such as {"sensor": "attic", "celsius": 21.5, "humidity": 40.0}."""
    (verdict,) = await engine.aupdate([reading["sensor"]], [reading])
    if verdict.anomalous:
        await broker.publish({"sensor": reading["sensor"], "p_value": verdict.p_value}, "alarms")

"""A device with paho-mqtt for Python: subscribes, prints each message as a line of JSON, and
answers each on its response topic, or with an own publish of QoS 2.

    python3 client.py HOST PORT VERSION USER TOKEN CLIENT FILTER COUNT OUT
"""
import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port, version, user, token, client_id, topic_filter, count, out = sys.argv[1:]
v5 = version == "5"
left = int(count)
done = threading.Event()


def on_connect(client, _userdata, flags, reason, _properties):
    if reason.is_failure:
        sys.exit(f"refused: {reason}")
    print(json.dumps({"present": flags.session_present}), flush=True)
    if not flags.session_present:
        client.subscribe(topic_filter, qos=2)


def on_message(client, _userdata, m):
    global left
    properties = getattr(m, "properties", None)
    print(json.dumps({"topic": m.topic, "payload": m.payload.decode(), "qos": m.qos, "dup": m.dup, "retain": m.retain,
                      "type": getattr(properties, "ContentType", None)}), flush=True)
    client.publish(getattr(properties, "ResponseTopic", None) or out, f"got {m.payload.decode()}", qos=2)


def on_publish(client, _userdata, _mid, reason, _properties):
    global left
    left -= 1
    if left == 0:
        client.disconnect()
        done.set()


versions = {"3": mqtt.MQTTv31, "4": mqtt.MQTTv311, "5": mqtt.MQTTv5}
c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=versions[version], **({} if v5 else {"clean_session": False}))
c.username_pw_set(user, token)
c.on_connect, c.on_message, c.on_publish = on_connect, on_message, on_publish
if v5:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 600
    c.connect(host, int(port), clean_start=False, properties=properties)
else:
    c.connect(host, int(port))
c.loop_start()
if not done.wait(60):
    sys.exit("timed out")
c.loop_stop()

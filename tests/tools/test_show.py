"""`wgpy show`, against the text of wg(8) of Debian 12 (see tests/system/test_tools_oracle.py)."""

import dataclasses
import json

import pytest

from tests.tools.stats import BARE, NOW, ZERO_KEY_ONLY, answer
from wgpy.protocol.config import InterfaceStats
from wgpy.tools.fields import FIELDS, field_lines, json_object
from wgpy.tools.keys import public_key
from wgpy.tools.pretty import Style, interface_text
from wgpy.tools.showconf import config_text
from wgpy.uapi.text import parse_get

PLAIN = Style(color=False, show_keys=False)

EXPECTED = """\
interface: wg0
  public key: e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=
  private key: (hidden)
  listening port: 51820
  fwmark: 0x1234

peer: 3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d0=
  endpoint: [2001:db8::1]:5
  allowed ips: (none)
  latest handshake: (System clock wound backward; connection problems may ensue.)
  transfer: 1024.01 TiB received, 1.00 TiB sent

peer: //////////////////////////////////////////8=
  allowed ips: ::ffff:1.2.3.4/128
  latest handshake: 1 hour, 1 minute, 40 seconds ago
  transfer: 0 B received, 1.50 GiB sent

peer: u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s=
  preshared key: (hidden)
  endpoint: 1.2.3.4:5
  allowed ips: 10.0.0.0/24, fd00::/64
  latest handshake: 1 hour, 1 minute, 40 seconds ago
  transfer: 1023 B received, 1.00 KiB sent
  persistent keepalive: every 25 seconds

peer: zMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMw=
  endpoint: [fe80::1%lo]:5
  allowed ips: 0.0.0.0/0
  latest handshake: 2 years, 70 days, 1 minute, 1 second ago
  transfer: 1024.00 MiB received, 1.00 MiB sent
  persistent keepalive: every 1 hour, 1 minute, 1 second

peer: qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=
  allowed ips: (none)

peer: 7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u4=
  allowed ips: (none)
  transfer: 1 B received, 0 B sent
"""

DUMP = """\
ERERERERERERERERERERERERERERERERERERERERERE= e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM= \
51820 0x1234
qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo= (none) (none) (none) 0 0 0 off
u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s= IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI= \
1.2.3.4:5 10.0.0.0/24,fd00::/64 1799996300 1023 1024 25
zMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMw= (none) [fe80::1%lo]:5 0.0.0.0/0 \
1730879939 1073741823 1048576 3661
3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d0= (none) [2001:db8::1]:5 (none) \
1800001000 1125912252521525 1099511627776 off
7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u4= (none) (none) (none) 0 1 0 off
//////////////////////////////////////////8= (none) (none) ::ffff:1.2.3.4/128 \
1799996300 0 1610612736 off
""".replace(" ", "\t")


def stats(text: str = answer(NOW)) -> InterfaceStats:
    found = parse_get(text, lambda name: 1)
    if found.private_key is None:
        return found
    return dataclasses.replace(found, public_key=public_key(found.private_key))


def test_the_text_for_people_is_that_of_wg() -> None:
    assert interface_text("wg0", stats(), NOW, PLAIN) == EXPECTED


def test_a_handshake_of_this_second_is_now() -> None:
    text = interface_text("wg0", stats(answer(NOW)), NOW - 3700, PLAIN)
    assert "latest handshake: Now\n" in text


def test_an_interface_without_anything_is_its_name() -> None:
    assert interface_text("wg0", stats(BARE), NOW, PLAIN) == "interface: wg0\n"


def test_a_key_of_zeros_is_a_key() -> None:
    assert "  private key: (hidden)\n" in interface_text("wg0", stats(ZERO_KEY_ONLY), NOW, PLAIN)


def test_keys_are_shown_only_on_demand() -> None:
    text = interface_text("wg0", stats(), NOW, Style(color=False, show_keys=True))
    assert "  private key: ERERERER" in text and "  preshared key: IiIiIi" in text


def test_colours_change_nothing_but_colours() -> None:
    import re

    text = interface_text("wg0", stats(), NOW, Style(color=True, show_keys=False))
    assert text.startswith("\x1b[0m\x1b[32m\x1b[1minterface\x1b[0m: \x1b[32mwg0\x1b[0m\n")
    assert "\x1b[1mtransfer\x1b[0m: 1023 \x1b[36mB\x1b[0m received" in text
    assert re.sub(r"\x1b\[\d+m", "", text) == EXPECTED


def test_dump_has_the_columns_of_wg() -> None:
    assert "".join(field_lines(stats(), "dump")) == DUMP


def test_with_all_the_first_cell_is_the_interface() -> None:
    lines = list(field_lines(stats(), "dump", ("wg0",)))
    assert "".join(line.removeprefix("wg0\t") for line in lines) == DUMP
    assert all(line.startswith("wg0\t") for line in lines)


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("public-key", "e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM="),
        ("private-key", "ERERERERERERERERERERERERERERERERERERERERERE="),
        ("listen-port", "51820"),
        ("fwmark", "0x1234"),
        ("peers", "u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s="),
        ("preshared-keys", "u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s= IiIiIiIi"),
        ("endpoints", "zMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMw= [fe80::1%lo]:5"),
        ("allowed-ips", "u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s= 10.0.0.0/24~fd00::/64"),
        ("latest-handshakes", "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo= 0"),
        ("transfer", "u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s= 1023 1024"),
        ("persistent-keepalive", "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo= off"),
    ],
)
def test_each_field_has_the_cells_of_wg(field: str, line: str) -> None:
    expected = line.replace(" ", "\t").replace("~", " ")
    assert any(found.startswith(expected) for found in field_lines(stats(), field))


def test_fields_of_an_interface_without_anything() -> None:
    words = {field: "".join(field_lines(stats(BARE), field)) for field in FIELDS}
    assert words["public-key"] == words["private-key"] == "(none)\n"
    assert words["listen-port"] == "0\n" and words["fwmark"] == "off\n"
    assert words["dump"] == "(none)\t(none)\t0\toff\n"
    assert words["peers"] == words["transfer"] == ""


def test_json_hides_keys_unless_asked() -> None:
    hidden = json.dumps(json_object(stats(), show_keys=False))
    assert "ERERERER" not in hidden and "IiIiIi" not in hidden
    shown = json_object(stats(), show_keys=True)
    assert shown["privateKey"].startswith("ERERERER")
    peer = shown["peers"]["u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s="]
    assert peer == {
        "presharedKey": "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=",
        "endpoint": "1.2.3.4:5",
        "allowedIps": ["10.0.0.0/24", "fd00::/64"],
        "latestHandshake": NOW - 3700,
        "transferRx": 1023,
        "transferTx": 1024,
        "persistentKeepalive": 25,
    }


def test_showconf_has_the_order_of_wg() -> None:
    assert config_text(stats()).startswith(
        "[Interface]\nListenPort = 51820\nFwMark = 0x1234\n"
        "PrivateKey = ERERERERERERERERERERERERERERERERERERERERERE=\n\n"
        "[Peer]\nPublicKey = qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n\n"
        "[Peer]\nPublicKey = u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s=\n"
        "PresharedKey = IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=\n"
        "AllowedIPs = 10.0.0.0/24, fd00::/64\nEndpoint = 1.2.3.4:5\nPersistentKeepalive = 25\n"
    )
    assert config_text(stats(BARE)) == "[Interface]\n\n"

"""Configuration files and what wg(8) of Debian 12 makes of them, found by running it.

tests/system/test_tools_oracle.py runs it again where it is installed.
"""

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
PEER = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
INTERFACE = f"[Interface]\nPrivateKey = {KEY}\n"
ONE_PEER = f"{INTERFACE}[Peer]\nPublicKey = {PEER}\n"

ACCEPTED = (
    {
        "nothing": "",
        "comments only": "\n# hello\n   \n",
        "a bare interface": INTERFACE,
        "a peer without an interface": f"[Peer]\nPublicKey={PEER}\n",
        "no line end at the end": INTERFACE[:-1],
        "carriage returns": INTERFACE.replace("\n", "\r\n"),
        "any case": f"[INTERFACE]\nprivatekey={KEY}\n[peer]\nPUBLICKEY={PEER}\n",
        "space anywhere": f"[ Inter face ]\nPrivate Key = {KEY[:10]} {KEY[10:]} # comment\n",
        "two interface sections": f"{INTERFACE}ListenPort=1\n{INTERFACE}ListenPort=2\n",
        "interface after peers": f"[Peer]\nPublicKey={PEER}\n{INTERFACE}",
        "the last value counts": f"{ONE_PEER}PublicKey={KEY}\n",
        "the same peer twice": f"{ONE_PEER}[Peer]\nPublicKey={PEER}\nEndpoint=1.1.1.1:1\n",
        "a zero key": f"[Interface]\nPrivateKey={'A' * 43}=\n",
        "a preshared key": f"{ONE_PEER}PresharedKey={KEY}\n",
        "a zero preshared key": f"{ONE_PEER}PresharedKey={'A' * 43}=\n",
    }
    | {
        f"{key}={value}": f"{INTERFACE}{key}={value}\n"
        for key, values in {
            "FwMark": ["off", "OFF", "0", "010", "0x10", "0xAbC", "4294967295", " 1 0"],
            "ListenPort": ["0", "1", "65535", "007", "5 1"],
        }.items()
        for value in values
    }
    | {
        f"{key}={value}": f"{ONE_PEER}{key}={value}\n"
        for key, values in {
            "PersistentKeepalive": ["off", "Off", "0", "1", "010", "65535"],
            "AllowedIPs": [
                "1.2.3.4",
                "1.2.3.4/8",
                "1.2.3.4/08",
                "::/0,1.2.3.4/3",
                "::1",
                "::ffff:1.2.3.4/128",
                " 10.0.0.1 / 8 , 1.1.1.1",
                "0.0.0.0/0,::/0",
                "10.0.0.0/24\nAllowedIPs=10.0.1.0/24",
            ],
            "Endpoint": [
                "1.2.3.4:5",
                "1.2.3.4 : 5",
                "1.2.3.4:0",
                "[::1]:5",
                "::1:5",
                "[fe80::1%lo]:5",
                "fe80::1%lo:5",
                "1.2:7",
            ],
        }.items()
        for value in values
    }
)

# With what stands in our message.
REFUSED = (
    {
        "no section": (f"PrivateKey={KEY}\n", "1: expected [Interface] or [Peer] first"),
        "a word": ("Foo\n", "1: expected [Interface], [Peer] or NAME = VALUE"),
        "another section": ("[Foo]\n", "1: expected [Interface] or [Peer], found another section"),
        "text after a section": ("[Interface]x\n", "1: expected [Interface] or [Peer]"),
        "a semicolon is no comment": (
            "[Interface]\n;x\n",
            "2: expected [Interface], [Peer] or NAME",
        ),
        "a byte order mark": ("\ufeff[Interface]\n", "1: expected [Interface], [Peer] or NAME"),
        "an unknown key": ("[Interface]\nFoo=1\n", "2: 'Foo' is not known in [Interface]"),
        "an empty name": ("[Interface]\n=1\n", "2: this name is not known in [Interface]"),
        "wg-quick's key": (
            "[Interface]\nAddress=1.2.3.4\n",
            "2: 'Address' is a setting of wgpy up",
        ),
        "a peer's key": (f"[Interface]\nPublicKey={KEY}\n", "2: 'PublicKey' belongs into [Peer]"),
        "an interface's key": (
            f"{ONE_PEER}ListenPort=1\n",
            "5: 'ListenPort' belongs into [Interface]",
        ),
        "no equals sign": ("[Interface]\nPrivateKey\n", "2: expected [Interface], [Peer] or NAME"),
        "a peer without key": ("[Interface]\n[Peer]\n", "2: this peer has no PublicKey"),
        "an unfinished key": (
            "[Interface]\nPrivateKey=abc\n",
            "2: PrivateKey: expected a key of 44",
        ),
        "bits too many": (
            f"[Interface]\nPrivateKey={'A' * 42}B=\n",
            "2: PrivateKey: expected a key",
        ),
        "a key too long": (
            f"[Interface]\nPrivateKey={'A' * 44}\n",
            "2: PrivateKey: expected a key",
        ),
    }
    | {
        f"{key}={value}": (f"{INTERFACE}{key}={value}\n", f"3: {key}: expected ")
        for key, values in {
            "FwMark": ["", "0x", "0xg", "0X10", "-1", "4294967296", "x"],
            "ListenPort": ["", "-1", "0x10", "off", "http"],
        }.items()
        for value in values
    }
    | {
        f"{key}={value}": (f"{ONE_PEER}{key}={value}\n", f"5: {key}: ")
        for key, values in {
            "PresharedKey": ["", "abc"],
            "PersistentKeepalive": ["", "-1", "+1", "65536", "x"],
            "AllowedIPs": [
                "",
                ",",
                "1.2.3.4/8,",
                "1.2.3.4/",
                "1.2.3.4/33",
                "1.2.3.4/+8",
                "1.2.3/8",
                "01.2.3.4",
                "0x1.2.3.4/8",
                "::1/129",
                "fe80::1%lo/64",
            ],
            "Endpoint": [
                "",
                "1.2.3.4",
                "1.2.3.4:",
                "1.2.3.4:-1",
                "1.2.3.4:http",
                ":5",
                "[::1]",
                "[::1]5",
                "[fe80::1%nope]:5",
            ],
        }.items()
        for value in values
    }
)

# What wg(8) takes for another port, or newer releases of it for an increment.
REFUSED_BY_US_ONLY = [
    f"{INTERFACE}ListenPort=65536\n",
    f"{INTERFACE}ListenPort=+5\n",
    f"{ONE_PEER}Endpoint=1.2.3.4:70000\n",
    f"{INTERFACE}PrivateKey={KEY}\0x\n",
]

# Depends on the machine's table of services.
SERVICES = [f"{INTERFACE}ListenPort=ntp\n", f"{ONE_PEER}Endpoint=1.2.3.4:ntp\n"]

"""Files of wg-quick(8): what is taken out of them, what is left, what is refused."""

from ipaddress import ip_interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.wgconf import KEY, ONE_PEER, PEER
from wgpy.tools import quickconf
from wgpy.tools.errors import ToolError
from wgpy.tools.quickconf import QuickConfig, load, strip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "wg0.conf"


def read(path: Path, text: str) -> QuickConfig:
    path.write_text(text, newline="")
    path.chmod(0o600)
    return load(str(path))


def test_every_setting_is_taken_out_and_the_rest_is_left(path: Path) -> None:
    config = read(
        path,
        f"[Interface]\nPrivateKey={KEY}\nAddress=10.0.0.1/24,fd00::1/64\naddress = 10.1.1.1\n"
        "MTU=1300\nDNS=1.1.1.1, 2001:db8::1 example.org\nTable=1234\nSAVECONFIG=True\n"
        "PreUp=a %i # comment\nPreUp=b=c\nPostUp=d\nPreDown=e\nPostDown=f\n"
        f"[Peer]\nPublicKey={PEER}\n",
    )
    assert config.name == "wg0" and config.path == str(path)
    assert config.addresses == [
        ip_interface(text) for text in ("10.0.0.1/24", "fd00::1/64", "10.1.1.1/32")
    ]
    assert (config.mtu, config.table, config.table_number) == (1300, "1234", 1234)
    assert (config.dns, config.dns_search) == (["1.1.1.1", "2001:db8::1"], ["example.org"])
    assert config.save and config.pre_up == ["a %i", "b=c"]
    assert (config.post_up, config.pre_down, config.post_down) == (["d"], ["e"], ["f"])
    assert strip(str(path)) == f"[Interface]\nPrivateKey={KEY}\n[Peer]\nPublicKey={PEER}\n\n"
    assert config.change().peers[0].public_key.hex().startswith("c532")


def test_nothing_given_is_wg_quicks_default(path: Path) -> None:
    config = read(path, "")
    assert (config.mtu, config.table, config.save, config.addresses) == (None, "", False, [])
    assert config.auto_table and strip(str(path)) == "\n"


def test_strip_keeps_mistakes_so_that_setconf_refuses_them(path: Path) -> None:
    path.write_text("[Interface]\nMTU = x\nFoo = 1\n")
    path.chmod(0o600)
    assert strip(str(path)) == "[Interface]\nFoo = 1\n\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[Interface]\nAddress=x\n", "2: Address: expected ADDRESS or ADDRESS/LENGTH, found 'x'"),
        ("[Interface]\nAddress=1.2.3.4/33\n", "2: Address: expected"),
        ("[Interface]\nMTU=x\n", "2: MTU: expected a number of bytes, found 'x'"),
        ("[Interface]\nMTU=0\n", "2: MTU: expected"),
        ("[Interface]\nTable=x\n", "2: Table: expected off, auto or a number, found 'x'"),
        ("[Interface]\nSaveConfig=1\n", "2: SaveConfig: expected true or false, found '1'"),
        ("[Interface]\n\n\nMTU=1300\nFoo=1\n", "5: 'Foo' is not known in [Interface]"),
        (f"{ONE_PEER}MTU=1300\n", "5: 'MTU' is a setting of wgpy up"),
        (f"{ONE_PEER}Endpoint=nowhere.invalid\n", "5: Endpoint: expected HOST:PORT"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(path: Path, text: str, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        read(path, text)
    assert str(caught.value).startswith(f"{path}:{message}")


def test_names_are_not_looked_up_before_it_is_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(text: str) -> None:
        raise AssertionError(text)

    monkeypatch.setattr(quickconf, "resolve_endpoint", resolve)
    read(path, f"{ONE_PEER}Endpoint=nowhere.invalid:5\n")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("nosuchif", "/etc/wireguard/nosuchif.conf: does not exist; "),
        ("./nosuch.conf", "./nosuch.conf: does not exist; "),
        ("/dev/null", "/dev/null: expected an interface's name"),
    ],
)
def test_a_file_that_is_not_one_is_refused(config: str, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        load(config)
    assert str(caught.value).startswith(message)


def test_a_name_too_long_for_an_interface_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sixteen-letters-.conf"
    path.touch()
    with pytest.raises(ToolError, match="expected an interface's name"):
        load(str(path))


def test_only_a_file_that_others_reach_is_warned_of(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read(path, "")
    path.chmod(0o644)
    load(str(path))
    assert capsys.readouterr().err == ""
    path.parent.chmod(0o755)
    load(str(path))
    assert capsys.readouterr().err == (f"wgpy: warning: {path} is world accessible; chmod 600 it\n")


PIECES = st.sampled_from(
    [
        "[Interface]",
        "[Peer]",
        "Address",
        "DNS",
        "MTU",
        "Table",
        "PostUp",
        "=",
        "#",
        ",",
        " ",
        "\n",
        "\t",
        "1.2.3.4/8",
        "1300",
        "off",
        "%i",
        "SaveConfig",
        "true",
        f"PublicKey={PEER}",
    ]
)


@given(st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=60)))
def test_any_text_is_understood_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "wgh.conf"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(str(path))
    except ToolError as error:
        assert str(error).startswith(f"{path}:") and len(str(error).splitlines()) == 1

# udev, as a system has it: its daemon, and events for what is there already.
echo speckv:x:777: >/etc/group
mkdir -p /run
udev() {
  name=$1
  shift
  /udev/ld-linux-x86-64.so.2 --library-path /udev --argv0 $name /udev/udevadm "$@"
}
udev systemd-udevd --daemon || echo "GUEST BAD no udev"
udev udevadm trigger --action=add --subsystem-match=speckv && udev udevadm settle ||
  echo "GUEST BAD udev does not settle"

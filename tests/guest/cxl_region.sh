# The expander's memory becomes a NUMA node, as `cxl create-region -m -t ram` makes it one.
for name in cxl_acpi cxl_pci cxl_mem device_dax dax_cxl kmem; do insmod /$name.ko; done
cd /sys/bus/cxl/devices
for i in $(seq 100); do  # sleeps: nobody tells when the expander has been found
  endpoint=$(ls -d decoder*/dpa_size 2>/dev/null | head -n 1)
  [ -z "$endpoint" ] || break
  sleep 0.1
done
endpoint=${endpoint%/dpa_size}
region=$(cat decoder0.0/create_ram_region)
size=$(cat mem0/ram/size)
echo $region >decoder0.0/create_ram_region &&
  echo 256 >$region/interleave_granularity &&
  echo 1 >$region/interleave_ways &&
  echo ram >$endpoint/mode &&
  echo $size >$endpoint/dpa_size &&
  echo $size >$region/size &&
  echo $endpoint >$region/target0 &&
  echo 1 >$region/commit &&
  echo $region >/sys/bus/cxl/drivers/cxl_region/bind || echo "GUEST BAD no CXL region"
for i in $(seq 100); do  # sleeps: nor when its memory is there
  grep -q MemTotal /sys/devices/system/node/node2/meminfo 2>/dev/null && break
  sleep 0.1
done
cd /

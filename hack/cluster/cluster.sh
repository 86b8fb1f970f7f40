#!/usr/bin/env bash
# A real one-node Kubernetes cluster in a network namespace of its own: etcd, API server, controller manager, scheduler,
# containerd, kubelet, kube-proxy, CoreDNS. No route leads out of the namespace; the host reaches Services and pods, and
# pods reach the host at 10.99.0.1.
#   cluster.sh packages          install what it needs from Debian (apt-get)
#   cluster.sh up                start the cluster (15-25 s) and print how to reach it
#   cluster.sh load IMAGE.tar    import an OCI archive (buildah push NAME:TAG oci-archive:IMAGE.tar:NAME:TAG)
#   cluster.sh logs              print the end of every log
#   cluster.sh down              stop everything that it started and remove the namespace
# Needs root. The binaries come from hack/control_plane.py, which builds those that are missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${FORESAIL_CLUSTER_DIR:-/var/lib/foresail-cluster}
packages=(containerd runc containernetworking-plugins buildah busybox-static iproute2 nftables iptables conntrack openssl debootstrap)
ns=foresail host_ip=10.99.0.1 node_ip=10.99.0.2 pod_cidr=10.98.0.0/16 service_cidr=10.97.0.0/16 api_ip=10.97.0.1 dns_ip=10.97.0.10
export KUBECONFIG="$work/admin.kubeconfig"
declare -A bin

fail() { echo "cluster.sh: $*" >&2; exit 1; }

requirements() {
  [ "$(id -u)" = 0 ] || fail "needs root: a node mounts, makes network namespaces and starts containers"
  local command
  for command in containerd runc buildah busybox ip nft iptables conntrack openssl debootstrap; do
    command -v "$command" >/dev/null || fail "$command is missing; run \`hack/cluster/cluster.sh packages\`, which installs: ${packages[*]}"
  done
}

binaries() {
  local name path
  while read -r name path; do bin[$name]=$path; done < <(python3 "$here/../control_plane.py" --node --print)
  [ -n "${bin[kubelet]:-}" ] || fail "run \`make cluster-binaries\` first"
}

kubectl() { "${bin[kubectl]}" "$@"; }

fill() {  # template: print it with this cluster's values
  sed -e "s|@work@|$work|g" -e "s|@dns_ip@|$dns_ip|g" "$here/$1"
}

issue() {  # name, subject, subjectAltName: a certificate of the cluster's authority
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=clientAuth,serverAuth\n' "${3:-DNS:$1}") 2>/dev/null
}

certificates() {
  mkdir -p "$work/pki"
  cd "$work/pki"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=cluster-ca 2>/dev/null
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 2>/dev/null | openssl ec -out sa.key 2>/dev/null
  issue apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$node_ip,IP:$api_ip"
  issue kubelet /O=system:nodes/CN=system:node:node "DNS:node,IP:$node_ip"
  issue admin /O=system:masters/CN=admin
  issue controller-manager /CN=system:kube-controller-manager
  issue scheduler /CN=system:kube-scheduler
  issue proxy /CN=system:kube-proxy
  local name file
  for name in admin kubelet controller-manager scheduler proxy; do
    file="$work/$name.kubeconfig"
    kubectl config --kubeconfig="$file" set-cluster one --server="https://$node_ip:6443" --certificate-authority=ca.crt --embed-certs >/dev/null
    kubectl config --kubeconfig="$file" set-credentials user --client-certificate="$name.crt" --client-key="$name.key" --embed-certs >/dev/null
    kubectl config --kubeconfig="$file" set-context one --cluster=one --user=user >/dev/null
    kubectl config --kubeconfig="$file" use-context one >/dev/null
  done
}

network() {
  ip netns add $ns
  ip link add fs-host type veth peer name node0 netns $ns
  ip addr add $host_ip/24 dev fs-host
  ip link set fs-host up
  ip -n $ns addr add $node_ip/24 dev node0
  ip -n $ns link set node0 up
  ip -n $ns link set lo up
  # Service addresses need a route before NAT rewrites them; an empty bridge gives one, and nothing leaves by it.
  ip -n $ns link add sink0 type bridge
  ip -n $ns link set sink0 up
  ip -n $ns route add default dev sink0
  nsenter --net=/run/netns/$ns sysctl -qw net.ipv4.ip_forward=1
  ip route add $service_cidr via $node_ip
}

logs() { tail -n 20 "$work"/log/*.log; }

start() {  # name, command...: in the cluster's network; not by `ip netns exec`, which hides the cgroups from kubelet
  local name=$1
  shift
  nsenter --net=/run/netns/$ns setsid "$@" </dev/null >"$work/log/$name.log" 2>&1 &
  echo $! >"$work/run/$name.pid"
}

wait_for() {  # what, seconds, command...
  local what=$1 seconds=$2 deadline
  shift 2
  deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { logs >&2; fail "$what did not come up in $seconds s; its log is above"; }
    sleep 0.2
  done
}

load() { ctr -a "$work/containerd.sock" -n k8s.io images import --no-unpack=false "$1" >/dev/null; }

binary_image() {  # name, file, entrypoint as JSON: an image of one static binary
  local name=$1 file=$2 folder
  folder=$(mktemp -d)
  cp "$file" "$folder/binary"
  printf 'FROM scratch\nCOPY binary /%s\nENTRYPOINT %s\n' "$(basename "$file")" "$3" >"$folder/Containerfile"
  buildah --storage-driver vfs bud --isolation chroot --quiet --tag "$name" "$folder" >/dev/null
  buildah --storage-driver vfs push --quiet "$name" "oci-archive:$folder/image.tar:$name" >/dev/null
  load "$folder/image.tar"
  rm -rf "$folder"
}

control_plane() {
  start etcd "${bin[etcd]}" --data-dir "$work/etcd" --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync
  start kube-apiserver "${bin[kube-apiserver]}" --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 \
    --advertise-address=$node_ip --secure-port=6443 --service-cluster-ip-range=$service_cidr \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --client-ca-file=pki/ca.crt \
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key \
    --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key \
    --kubelet-certificate-authority=pki/ca.crt --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=pki/sa.key \
    --service-account-signing-key-file=pki/sa.key --profiling=false
  wait_for kube-apiserver 60 kubectl get --raw /readyz
  start kube-controller-manager "${bin[kube-controller-manager]}" --kubeconfig=controller-manager.kubeconfig \
    --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt --use-service-account-credentials \
    --allocate-node-cidrs --cluster-cidr=$pod_cidr --service-cluster-ip-range=$service_cidr --leader-elect=false
  start kube-scheduler "${bin[kube-scheduler]}" --kubeconfig=scheduler.kubeconfig --leader-elect=false
}

node() {
  fill containerd.toml >containerd.toml
  fill kubelet.yaml >kubelet.yaml
  mkdir -p cni
  fill pods.conflist >cni/10-pods.conflist
  : >resolv.conf
  start containerd containerd -c "$work/containerd.toml"
  wait_for containerd 20 ctr -a "$work/containerd.sock" version
  binary_image localhost/pause:1 /bin/busybox '["/busybox", "sleep", "infinity"]'
  binary_image localhost/coredns:1 "${bin[coredns]}" '["/coredns"]'
  start kubelet "${bin[kubelet]}" --config="$work/kubelet.yaml" --kubeconfig="$work/kubelet.kubeconfig" \
    --hostname-override=node --node-ip=$node_ip --root-dir="$work/kubelet"
  start kube-proxy "${bin[kube-proxy]}" --kubeconfig=proxy.kubeconfig --proxy-mode=iptables --cluster-cidr=$pod_cidr \
    --hostname-override=node --conntrack-max-per-core=0
  wait_for "the node" 60 kubectl wait --for=condition=Ready node/node --timeout=1s
}

up() {
  requirements
  python3 "$here/../control_plane.py" --node >/dev/null
  binaries
  [ ! -e /run/netns/$ns ] || fail "a cluster is there already; \`cluster.sh down\` removes it"
  mkdir -p "$work"/{log,run,etcd,kubelet}
  certificates
  network
  cd "$work"
  control_plane
  node
  fill coredns.yaml | kubectl apply -f - >/dev/null
  wait_for CoreDNS 60 kubectl -n kube-system wait --for=condition=Available deploy/coredns --timeout=1s
  echo "export KUBECONFIG=$KUBECONFIG"
}

stop() {  # name...: end what `start` started
  local name
  for name in "$@"; do
    [ ! -f "$work/run/$name.pid" ] || kill "$(cat "$work/run/$name.pid")" 2>/dev/null || true
  done
}

pod_networks() {  # the names of the network namespaces of this cluster's pods, and of no other's
  local container
  for container in $(ctr -a "$work/containerd.sock" -n k8s.io containers ls -q 2>/dev/null); do
    ctr -a "$work/containerd.sock" -n k8s.io containers info "$container" | grep -oE 'netns/cni-[-0-9a-f]+' | cut -d/ -f2 || true
  done | sort -u
}

down() {
  [ "$(id -u)" = 0 ] || fail "needs root"
  local task networks
  networks=$(pod_networks)
  stop kube-proxy kubelet kube-scheduler kube-controller-manager kube-apiserver
  for task in $(ctr -a "$work/containerd.sock" -n k8s.io tasks ls -q 2>/dev/null); do
    ctr -a "$work/containerd.sock" -n k8s.io tasks kill -s KILL "$task" >/dev/null 2>&1 || true
  done
  sleep 1
  stop containerd etcd
  sleep 1
  awk -v folder="$work/" 'index($2, folder) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
  xargs -r -n1 ip netns del <<<"$networks" 2>/dev/null || true
  ip netns del $ns 2>/dev/null || true
  ip link del fs-host 2>/dev/null || true
  rm -rf "${work:?}"/{log,run,etcd,kubelet,containerd,cni,ipam,pki,artifacts,containerd.sock,containerd.sock.ttrpc} "$work"/*.kubeconfig
}

case ${1:-} in
  packages) apt-get update -q && apt-get install -y -q --no-install-recommends "${packages[@]}" ;;
  up | down | logs) "$1" ;;
  load) load "$2" ;;
  *) sed -n '2,10p' "$0"; exit 2 ;;
esac

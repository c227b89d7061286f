"""Ledgers that the bench posts to beside ours, each in a file of its own behind `peer.Peer`; `table.PEERS` names them."""

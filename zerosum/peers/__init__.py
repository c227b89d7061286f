"""Our own services as they see one another: gRPC clients behind the ports WalletPeer and LedgerPeer."""

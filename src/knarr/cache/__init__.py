"""What earlier builds left: keys → records → snapshots and blobs; content hashes of trees."""
